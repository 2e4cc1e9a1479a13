"""Readers of published data sets, on small files in their formats; and what is hostile or damaged in them."""

import gzip
import io
import json
import re
import tarfile
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from blip_trace_widget import (
    GaussianNoise,
    Sample,
    demo_samples,
    read_clevr,
    read_coco_qa,
    read_folders,
    read_gqa,
    read_mit_states,
    read_questions,
    read_svo_probes,
    read_vqa,
    read_webdataset,
    trace_dataset,
)
from blip_trace_widget.dataset import answers
from blip_trace_widget.dataset.batch import UNREADABLE, UNUSABLE
from blip_trace_widget.dataset.corruptions import NO_PARTNER
from blip_trace_widget.dataset.picture_folders import PictureFolder, coco_name
from blip_trace_widget.dataset.samples import as_samples
from blip_trace_widget.tracing.corruption import ImageSwap

OURS = re.compile(r"(shards|questions|annotations|csv|images|image|group|limit|missing|words|seed)\b")
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 8, 3), dtype=np.uint8))


@contextmanager
def refused_in_our_words():
    """What is in this block goes on to its end, or is refused by an error of ours."""
    refusal = None
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        refusal = str(error)
    assert refusal is None or OURS.match(refusal), refusal


def put(folder, *names):
    """A picture under each of these names, and the folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PICTURE.save(folder / name)
    return folder


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


# --- COCO's names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "number"),
    [
        ("000000000009.jpg", "9"),
        ("000000000009.jpg", "9.0"),
        ("COCO_train2014_000000000009.jpg", "9"),
        ("train2014/COCO_train2014_000000000009.jpg", "9.0"),
        ("images/val2017/000000000009.jpg", "COCO_val2014_000000000009.jpg"),
        ("COCO_val2014_000000000009.jpg", "000000000009.jpg"),
        ("train2014/COCO_train2014_000000000009.jpg", "train2014/COCO_train2014_000000000009.jpg"),
    ],
)
def test_a_picture_of_coco_is_found_by_either_name(tmp_path, there, number):
    folder = put(tmp_path / "pictures", there)
    table = write(tmp_path / "color.csv", f"train_image_id_count,question_count,answer_count\n{number},what?,red\n")
    assert read_coco_qa(table, folder)[0].image == folder / there


def test_the_nearest_of_several_is_taken_and_others_are_named(tmp_path):
    folder = put(tmp_path / "p", "a/000000000009.jpg", "b/COCO_val2014_000000000009.jpg", "x/a.jpg", "y/a.jpg", "b.jpg")
    put(folder, "x/b.jpg")
    found = PictureFolder(folder)
    assert found.path("000000000009.jpg") == (folder / "a/000000000009.jpg", True)  # its own name before the other
    assert found.path("b.jpg") == (folder / "b.jpg", True)
    assert found.path("x/b.jpg") == (folder / "x/b.jpg", True)
    assert found.path("x\\a.jpg") == (folder / "x/a.jpg", True)
    assert found.path("x/c.jpg") == (folder / "x/c.jpg", False)
    with pytest.raises(ValueError, match=r"2 pictures are called 'a\.jpg'.*name their folders too"):
        found.path("a.jpg")
    (folder / "loop").symlink_to(folder)  # a circle of links has an end
    assert PictureFolder(folder).path("y/a.jpg")[1]


@given(some.text(max_size=20) | some.sampled_from(["../a.png", "/etc/passwd", "C:\\a", "x/../../a", "..", "a/.."]))
@settings(max_examples=200, deadline=None)
def test_no_name_leads_out_of_the_folder(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "inside"
    folder.mkdir(exist_ok=True)
    with refused_in_our_words():
        path, is_there = PictureFolder(folder).path(name)
        assert not is_there
        assert folder in path.parents or path == folder
        assert ".." not in path.relative_to(folder).parts


@given(
    some.integers(0, 10**12 - 1), some.sampled_from(["{}", "{}.0", "{:012}", "{:012}.jpg", "COCO_test2015_{:012}.jpg"])
)
def test_an_id_of_coco_is_read_however_it_is_written(number, written):
    assert coco_name(written.format(number), "csv")[-16:] == f"{number:012}.jpg"
    assert coco_name(number, "csv") == coco_name(f" {number}.0 ", "csv") == f"{number:012}.jpg"


# --- VQA and GQA ------------------------------------------------------------------------------------------------------

QUESTIONS = {
    "info": {"year": 2017},
    "task_type": "Open-Ended",
    "data_type": "mscoco",
    "license": {"name": "CC BY 4.0"},
    "data_subtype": "train2014",
    "questions": [
        {"image_id": 9, "question": "What color is the bowl?", "question_id": 9000},
        {"image_id": 25, "question": "How many giraffes are there?", "question_id": 25001},
    ],
}


def annotation(question_id, image_id, answer_type, given):
    listed = [{"answer": one, "answer_confidence": "yes", "answer_id": at} for at, one in enumerate(given, 1)]
    return {
        "question_type": "what color is the",
        "multiple_choice_answer": given[0],
        "answers": listed,
        "image_id": image_id,
        "answer_type": answer_type,
        "question_id": question_id,
    }


ANNOTATIONS = {
    "annotations": [
        annotation(25001, 25, "number", ["2"] * 9 + ["3"]),
        annotation(9000, 9, "other", ["blue", *["light blue"] * 6, "blue", "sky", "white"]),
    ]
}


def vqa(folder, questions=QUESTIONS, annotations=ANNOTATIONS, **options):
    put(folder, "COCO_train2014_000000000009.jpg", "train2014/COCO_train2014_000000000025.jpg")
    files = write(folder / "q.json", questions), write(folder / "a.json", annotations)
    return read_vqa(*files, folder, **options)


def test_vqa_is_read_as_it_is_published(tmp_path):
    first, second = vqa(tmp_path)
    assert first[:2] == (tmp_path / "COCO_train2014_000000000009.jpg", "What color is the bowl?")
    assert (first.id, first.group, len(first.answer)) == ("9000", "other", 10)
    assert answers.scored(first.answer) == "light blue"
    assert answers.accuracy("blue", first.answer) == pytest.approx(0.6)
    assert second.image == tmp_path / "train2014/COCO_train2014_000000000025.jpg"
    assert answers.scored(second.answer) == "2"
    assert {sample.group for sample in vqa(tmp_path, group="question_type")} == {"what color is the"}
    assert len(vqa(tmp_path, limit=1)) == 1
    (unanswered, _) = read_vqa(tmp_path / "q.json", None, tmp_path)
    assert unanswered.answer is None


def test_json_may_have_a_pair_other_capitals_and_a_mark(tmp_path):
    entry = {"Image_ID": 9.0, "QUESTION": "what?", "question_id": "7.0", "other_image": 25, "foil": "red"}
    entry |= {"other_question": "who?", "region": [[0, 1], [0, 0]]}
    vqa(tmp_path)
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "own.json").write_bytes(json.dumps({"Questions": [entry]}).encode(encoding))
        (sample,) = read_vqa(tmp_path / "own.json", None, tmp_path)
        assert (sample.id, sample.foil, sample.other_question) == ("7", "red", "who?")
        assert sample.other_image == tmp_path / "train2014/COCO_train2014_000000000025.jpg"
        assert sample.region == ((False, True), (False, False))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"questions": {"annotations": []}}, r"questions: .* lacks the columns \['questions'\]"),
        ({"questions": []}, 'questions: .*expected {"questions"'),
        ({"questions": {"questions": 3}}, "questions: .*got int in it"),
        ({"questions": {"questions": []}}, "questions: there is no question"),
        ({"questions": {"questions": [3]}}, r"'0' should have \['question_id'"),
        ({"questions": {"questions": [{"image_id": 9, "question": "a"}]}}, r"lacks the columns \['question_id'\]"),
        ({"questions": {"questions": [{"image": 9, "question": "a", "question_id": 1}]}}, "'image_id'"),
        ({"questions": {"questions": [{"image_id": "x", "question": "a", "question_id": 9000}]}}, "COCO image id"),
        ({"questions": "[" * 100_000}, "questions: .*is no JSON"),
        ({"questions": '{"questions": '}, "questions: .*is no JSON"),
        ({"annotations": {"annotations": ANNOTATIONS["annotations"][:1]}}, "annotations: 1 of 2 questions have no"),
        ({"annotations": {"annotations": [annotation(9000, 25, "other", ["a"])]}}, "question 9000 is about"),
        ({"group": "kind"}, "group: expected one of"),
        ({"missing": "ignore"}, "missing: expected one of"),
    ],
)
def test_a_file_that_is_not_vqa_s_is_refused(tmp_path, changes, told):
    with pytest.raises(ValueError, match=told):
        vqa(tmp_path, **changes)


GQA = {
    "02930152": {
        "semantic": [{"operation": "select", "dependencies": [], "argument": "sky (2486325)"}],
        "entailed": ["02930160"],
        "question": "Is the sky dark?",
        "imageId": "2354786",
        "isBalanced": True,
        "groups": {"global": None, "local": "06-sky_dark"},
        "answer": "yes",
        "semanticStr": "select: sky (2486325)->verify color: dark [0]",
        "annotations": {"answer": {}, "question": {"2": "2486325"}, "fullAnswer": {"2": "2486325"}},
        "types": {"detailed": "verifyAttr", "semantic": "attr", "structural": "verify"},
        "fullAnswer": "Yes, the sky is dark.",
    },
    "201307251": {"question": "Who is it?", "imageId": "n161313", "isBalanced": False},  # of the submission split
}


def test_gqa_is_read_as_it_is_published(tmp_path):
    folder, file = put(tmp_path / "images", "2354786.jpg", "n161313.jpg"), write(tmp_path / "gqa.json", GQA)
    first, second = read_gqa(file, folder)
    assert first[:6] == (folder / "2354786.jpg", "Is the sky dark?", "yes", None, "02930152", "verify")
    assert (second.image, second.answer, second.group) == (folder / "n161313.jpg", None, "")
    assert read_gqa(file, folder, group="semantic")[0].group == "attr"
    with pytest.raises(ValueError, match="group: expected one of"):
        read_gqa(file, folder, group="local")
    with pytest.raises(ValueError, match=r"'1'.* lacks the columns \['imageId'\].*'image' is nearly 'imageId'"):
        read_gqa(write(tmp_path / "b.json", {"1": {"question": "a", "image": "b"}}), folder)
    (folder / "n161313.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 2 pictures"):
        read_gqa(file, folder)
    assert len(read_gqa(file, folder, missing="skip")) == 2


# --- pairs ------------------------------------------------------------------------------------------------------------

SVO = """sentence,pos_triplet,neg_triplet,pos_url,neg_url,pos_image_id,neg_image_id,subj_neg,verb_neg,obj_neg
A child sits on a chair.,"child,sit,chair","child,stand,chair",http://a/1,http://a/2,1,2,False,True,False
A dog runs.,"['dog,run,beach']","cat,run,beach",http://a/3,http://a/2,3.0,2,TRUE,FALSE,FALSE
A man rides.,"man,ride,horse","man,ride,bike",http://a/1,http://a/9,1,9,0,0,1
Nothing.,"['[]']","man,ride,bike",http://a/1,http://a/3,1,3,True,False,False
"""


@pytest.mark.filterwarnings("ignore:.*not used")
def test_svo_probes_is_asked_as_notice_does(tmp_path):
    folder = put(tmp_path / "images", "1.jpg", "2.png", "more/3.JPG")
    file = write(tmp_path / "svo_probes.csv", SVO)
    with pytest.raises(FileNotFoundError, match=r"1 of 8 pictures are not in .*such as 9\.jpg"):
        read_svo_probes(file, folder)
    verb, subject, thing, nothing = read_svo_probes(file, folder, missing="skip")
    assert verb[:6] == (folder / "1.jpg", "is child sit or stand chair?", "sit", "stand", "0", "verb")
    assert verb.other_image == folder / "2.png"
    assert subject[:6] == (folder / "more/3.JPG", "is dog or cat run beach?", "dog", "cat", "1", "subject")
    assert thing[1:6] == ("is man ride horse or bike?", "horse", "bike", "2", "object")
    assert thing.other_image == folder / "9.jpg"
    assert nothing.question == ""
    plain = "\n".join(",".join(line.split(",")[:-3]) for line in SVO.splitlines())
    assert read_svo_probes(write(tmp_path / "plain.csv", plain), folder, "skip")[0] == verb
    with pytest.raises(ValueError, match=r"lacks the columns \['neg_triplet'\]"):
        read_svo_probes(write(tmp_path / "b.csv", SVO.replace("neg_triplet", "negative")), folder)


def test_mit_states_are_folders_of_adjective_and_noun(tmp_path):
    folder = put(tmp_path, "old car/a.jpg", "old car/b.png", "new car/c.jpg", "rusty car/d.jpg", "wet dog/e.jpg")
    put(folder, "adj car/f.jpg", "metadata/g.jpg")
    write(folder / "old car" / "readme.txt", "no picture")
    found = {sample.id: sample for sample in read_mit_states(folder)}
    assert set(found) == {"old car/a.jpg", "old car/b.png", "new car/c.jpg", "rusty car/d.jpg", "wet dog/e.jpg"}
    for name, sample in found.items():
        adjective, noun = name.partition("/")[0].split()
        assert sample.group == adjective
        if noun == "dog":  # there is no dog in another state
            assert sample[1:4] == ("is this dog wet?", None, None)
            assert sample.other_image is None
            continue
        assert sample.answer == adjective != sample.foil
        assert sample.other_image.parent == folder / f"{sample.foil} car"
        assert sample.question in {
            f"is this car {adjective} or {sample.foil}?",
            f"is this car {sample.foil} or {adjective}?",
        }
    assert read_mit_states(folder) == read_mit_states(folder)
    assert {read_mit_states(folder, seed=seed)[0].foil for seed in range(9)} == {"old", "rusty"}
    assert [sample.group for sample in read_mit_states(folder, "noun", limit=4)] == ["car"] * 4
    assert len(read_mit_states(folder, limit=2)) == 2
    with pytest.raises(ValueError, match="no folders called 'adjective noun'"):
        read_mit_states(folder / "old car")


def test_folders_are_labels(tmp_path):
    folder = put(tmp_path, "happy/1.jpg", "happy/2.jpg", "fear/3.jpg", "sad/4.png")
    asked = "is this person feeling {first} or {second}?"
    found = read_folders(folder, asked, words={"fear": "fearful"})
    assert [sample.id for sample in found] == ["fear/3.jpg", "happy/1.jpg", "happy/2.jpg", "sad/4.png"]
    for sample in found:
        assert sample.group == sample.answer == sample.image.parent.name.replace("fear", "fearful")
        assert sample.other_image.parent.name.replace("fear", "fearful") == sample.foil != sample.answer
        words = sorted([sample.answer, sample.foil])
        assert sorted(sample.question.removeprefix("is this person feeling ")[:-1].split(" or ")) == words
    orders = {read_folders(folder, asked, seed=seed)[0].question.split()[4] == "fear" for seed in range(20)}
    assert orders == {True, False}
    assert {sample.question for sample in read_folders(folder, "what is felt?")} == {"what is felt?"}
    for wrong, told in (
        ({"question": 3}, "question: expected a text"),
        ({"question": "is it {first}?"}, "question: expected both"),
        ({"question": asked, "words": {"joy": "joyful"}}, "words: there is no folder 'joy'"),
        ({"question": asked, "words": ["joy"]}, "words: expected a mapping"),
        ({"question": asked, "seed": -1}, "seed: expected 0 or more"),
        ({"question": asked, "images": folder / "sad"}, "images: .*no folders with pictures"),
        ({"question": asked, "images": folder / "none"}, "images: no such folder"),
    ):
        with pytest.raises((TypeError, ValueError, OSError), match=told):
            read_folders(**({"images": folder} | wrong))


def test_every_table_may_have_the_columns_of_a_pair(tmp_path):
    folder = put(tmp_path / "p", "a.png", "b.png", "000000000007.jpg", "COCO_val2014_000000000008.jpg")
    put(folder, "CLEVR_val_000001.png", "CLEVR_val_000002.png")
    pair = 'foil,other_question,region\n{},red,who?,"[[1, 0], [false, true]]"\n'
    region = ((True, False), (False, True))
    own = write(tmp_path / "own.csv", "image,question,other_image," + pair.format("a.png,what?,b.png"))
    columns = "train_image_id_count,question_count,answer_count,other_image,"
    coco = write(tmp_path / "color.csv", columns + pair.format("7,what?,blue,8.0"))
    listed = "\"[{'question': 'what?', 'answer': 1, 'foil': 'no'}]\""
    clevr = "Image_IDs,Questions_Answers,other_image," + pair.format(f"CLEVR_val_000001,{listed},CLEVR_val_000002")
    for read, other, foil in (
        (read_questions(own, folder), "b.png", "red"),
        (read_coco_qa(coco, folder), "COCO_val2014_000000000008.jpg", "red"),
        (read_questions(coco, folder), "COCO_val2014_000000000008.jpg", "red"),
        (read_clevr(write(tmp_path / "clevr.csv", clevr), folder), "CLEVR_val_000002.png", "no"),
    ):
        (sample,) = read
        assert sample.other_image == folder / other
        assert (sample.foil, sample.other_question, sample.region) == (foil, "who?", region)
    missing = write(tmp_path / "m.csv", "image,question,other_image\na.png,what?,c.png\na.png,what?,\n")
    with pytest.raises(FileNotFoundError, match=r"1 of 3 pictures.*c\.png"):
        read_questions(missing, folder)
    one, other = read_questions(missing, folder, missing="skip")
    assert (one.other_image, other.other_image) == (folder / "c.png", None)
    with pytest.raises(ValueError, match="names of files in the folder"):
        read_questions(write(tmp_path / "o.csv", "image,question,other_image\na.png,what?,../a.png\n"), folder)


MASK = [[True, False], [False, True]]


@pytest.mark.parametrize(
    "region", [MASK, np.array(MASK), [np.array(row) for row in MASK], "[[1, 0], [0, 1]]", np.eye(2, dtype=int)]
)
def test_a_region_is_read_however_it_is_given(region):
    (sample,) = as_samples([{"image": 1, "question": "a", "region": region}])
    assert sample.region == tuple(map(tuple, MASK))


@pytest.mark.parametrize("nothing", [None, float("nan"), "", "null"])
def test_no_region_is_none(nothing):
    (sample,) = as_samples([{"image": 1, "question": "a", "region": nothing, "other_image": float("nan")}])
    assert (sample.region, sample.other_image) == (None, None)


# --- shards -----------------------------------------------------------------------------------------------------------


def picture_bytes(kind="PNG"):
    file = io.BytesIO()
    PICTURE.save(file, kind)
    return file.getvalue()


def shard(path, files, mode="w"):
    """A tar file with these files; a value that is no bytes is what becomes of its header."""
    with tarfile.open(path, mode) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                content(member)
                archive.addfile(member)
    return path


def described(**fields):
    return json.dumps(fields).encode()


def test_shards_are_read_in_order_and_again(tmp_path):
    one = shard(
        tmp_path / "a-000.tar",
        [
            ("./", lambda member: setattr(member, "type", tarfile.DIRTYPE)),
            ("train/000.jpg", picture_bytes("JPEG")),
            ("train/000.json", described(question="what?", answers=["red", "red", "blue"], id=5, region=[[1, 0]])),
            ("train/000.other_image.png", picture_bytes()),
            ("train/000.cls", b"7"),
            ("train/001.png", picture_bytes()),
            ("train/001.question.txt", "\ufeffwho is it, Käthe?".encode()),
            ("train/001.group.txt", b"people"),
            ("train/002.txt", b"a caption"),
        ],
    )
    two = shard(
        tmp_path / "a-001.tar.gz", [("9.json", described(question="a")), ("9.webp", picture_bytes("WEBP"))], "w:gz"
    )
    for given_ in (tmp_path, [one, two]):
        samples = read_webdataset(given_)
        first, second, third = samples
        assert first[1:6] == ("what?", ["red", "red", "blue"], None, 5, "")
        assert Image.open(io.BytesIO(first.image["bytes"])).format == "JPEG"
        assert Image.open(io.BytesIO(first.other_image["bytes"])).format == "PNG"
        assert (second.question, second.group, second.id) == ("who is it, Käthe?", "people", "train/001")
        assert (third.id, third.question) == ("9", "a")
        assert [sample.id for sample in samples] == [5, "train/001", "9"]
    (clean, *_) = as_samples(read_webdataset(one))
    assert (clean.id, clean.answer, clean.region) == ("5", ("red", "red", "blue"), ((True, False),))
    assert len(list(read_webdataset(tmp_path, limit=2))) == 2


def linked(kind, target):
    def change(member):
        member.type, member.linkname = kind, target

    return change


def sized(size):
    def change(member):
        member.size = size

    return change


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([("1.jpg", sized(10**12))], "has 1000000000000 bytes, expected at most"),
        ([("1.json", sized(2**23))], "has 8388608 bytes, expected at most"),
        ([("1.jpg", sized(10**5))], "unexpected end of data|damaged"),
        ([("1.jpg", b"a"), ("1.jpg", b"b")], "two files 'jpg'"),
        ([("1.jpg", b"a"), ("1.png", b"b")], "two pictures for 'image'"),
        ([("1.json", b"{")], "its .json is no JSON"),
        ([("1.json", b"[" * 10**5)], "its .json is no JSON"),
        ([("1.json", b"[]")], "its .json should have the fields"),
        ([("1.json", b"\xff")], "its .json is no UTF-8"),
        ([("1.json", b'{"qestion": "a"}')], "'qestion' is nearly 'question'"),
    ],
)
def test_what_is_hostile_in_a_shard_is_refused(tmp_path, files, told):
    path = shard(tmp_path / "a.tar", files)
    with pytest.raises(ValueError, match=told) as refusal:
        list(read_webdataset(path))
    assert str(refusal.value).startswith("shards: ")


def test_links_and_names_in_a_shard_lead_nowhere(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture_bytes())
    path = shard(
        tmp_path / "a.tar",
        [
            ("../1.jpg", linked(tarfile.SYMTYPE, str(tmp_path / "secret.png"))),
            ("../1.json", described(question="what?", image=str(tmp_path / "secret.png"))),
            ("/2.jpg", linked(tarfile.LNKTYPE, "../1.json")),
            ("/2.json", described(question="what?", other_image={"path": str(tmp_path / "secret.png")})),
            ("3.jpg", linked(tarfile.CHRTYPE, "")),
            ("3.json", described(question="what?")),
        ],
    )
    before = sorted(tmp_path.rglob("*"))
    found = list(read_webdataset(path))
    assert [(sample.image, sample.other_image, sample.question) for sample in found] == [(None, None, "what?")] * 3
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bomb_is_not_unpacked(tmp_path):
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 2**33 - 1  # a header that claims eight gigabytes of zeros
    packed = gzip.compress(member.tobuf(tarfile.USTAR_FORMAT) + bytes(2**20))
    (tmp_path / "a.tar.gz").write_bytes(packed)
    with pytest.raises(ValueError, match=r"a part of it has \d+ bytes, expected at most"):
        list(read_webdataset(tmp_path / "a.tar.gz"))


@pytest.mark.parametrize(
    ("given_", "told"),
    [
        (3, "shards: expected the path"),
        ([], "shards: expected one or more"),
        ("http://a/b.tar", "of the network"),
        ([3], "shards: expected"),
    ],
)
def test_what_is_no_shard_is_refused(given_, told):
    with pytest.raises((TypeError, ValueError, OSError), match=told):
        read_webdataset(given_)


@given(some.data())
@settings(max_examples=150, deadline=None)
def test_a_damaged_shard_is_read_or_refused(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    files = [("1.json", described(question="what?")), ("1.png", b"x" * 700), ("2.question.txt", b"who?")]
    content = bytearray(shard(folder / "whole.tar", files).read_bytes())
    for _ in range(data.draw(some.integers(0, 4))):
        content[data.draw(some.integers(0, 3500))] = data.draw(some.integers(0, 255))
    content = content[: data.draw(some.integers(0, len(content)))]
    if data.draw(some.booleans()):
        content = gzip.compress(content)[: data.draw(some.integers(0, 3000))]
    (folder / "broken.tar").write_bytes(content)
    with refused_in_our_words():
        for sample in read_webdataset(folder / "broken.tar"):
            assert isinstance(sample, Sample)


DAMAGED = some.binary(max_size=40) | some.sampled_from([b"null", b"[]", b'{"a": {"question": [], "imageId": {}}}'])


@given(
    DAMAGED,
    some.sampled_from([lambda file, folder: read_vqa(file, file, folder, missing="skip"), read_gqa, read_svo_probes]),
)
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore:.*cp1252")
def test_a_random_file_is_read_or_refused(tmp_path_factory, content, reader):
    folder = tmp_path_factory.getbasetemp()
    (folder / "file").write_bytes(content)
    with refused_in_our_words():
        reader(folder / "file", folder)


# --- traced -----------------------------------------------------------------------------------------------------------


def test_what_is_missing_in_a_file_or_shard_is_skipped_and_counted(tmp_path, demo):
    (drawn,) = demo_samples(1)
    folder = tmp_path / "p"
    folder.mkdir()
    drawn.image.save(folder / "a.png")
    table = "image,question,answer,other_image\n{0},{1},{2},{0}\n{0},{1},{2},b.png\n{0},{1},{2},\nc.png,{1},,{0}\n"
    path = write(tmp_path / "t.csv", table.format("a.png", drawn.question, drawn.answer))
    samples = read_questions(path, folder, missing="skip")
    few = {"blocks": "answer_decoder", "progress": False}
    found = trace_dataset(samples, demo, tmp_path / "out", corruption=ImageSwap, **few)
    assert found.counts == {
        "given": 4,
        "traced": 0,
        f"skipped: {NO_PARTNER}": 1,
        "skipped: the partner equals the original": 1,
        "skipped: the partner's picture cannot be read": 1,
        f"skipped: {UNREADABLE}": 1,
    }
    files = [("1.png", (folder / "a.png").read_bytes()), ("1.question.txt", drawn.question.encode())]
    files += [("2.json", described(question="what?")), ("3.png", b"no picture"), ("3.question.txt", b"what?")]
    files += [("4.png", (folder / "a.png").read_bytes())]
    shards = read_webdataset(shard(tmp_path / "a.tar", files))
    found = trace_dataset(shards, demo, tmp_path / "shards", corruption=GaussianNoise(samples=2), **few)
    assert found.counts == {"given": 4, "traced": 1, f"skipped: {UNREADABLE}": 2, f"skipped: {UNUSABLE}": 1}


def test_json_in_a_shard_opens_no_file_by_its_path(tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "secret.png")
    for picture in ({"bytes": None, "path": str(tmp_path / "secret.png")}, str(tmp_path / "secret.png")):
        content = json.dumps({"question": "what?", "image": picture, "other_image": picture}).encode()
        [sample] = read_webdataset(shard(tmp_path / "a.tar", [("a.json", content)]))
        assert sample.image is None
        assert sample.other_image is None


def test_a_header_that_leads_back_is_refused(tmp_path):
    path = shard(tmp_path / "a.tar", [("a.xyz", b""), ("b.xyz", b""), ("c.xyz", b"")])
    content = bytearray(path.read_bytes())
    content[1024 + 124 : 1024 + 136] = b"\xff" * 10 + b"\xfc\x00"  # -1024 bytes, in GNU's base 256
    checksum = sum(content[1024:1172]) + 8 * 32 + sum(content[1180:1536])
    content[1172:1180] = f"{checksum:06o}\0 ".encode()
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="damaged"):
        list(read_webdataset(path))
