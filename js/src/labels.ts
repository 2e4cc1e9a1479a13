// The words of the interface: short labels, and the explanation behind each.

const BLOCKS: Record<string, string> = {
	image_encoder: "Image encoder",
	question_encoder: "Question encoder",
	answer_decoder: "Answer decoder",
};

const SITES: Record<string, string> = {
	block_output: "layer output",
	self_attention: "self-attention",
	cross_attention: "cross-attention",
	mlp: "MLP",
};

const METRICS: Record<string, string> = {
	probability: "probability",
	log_probability: "log probability",
	logit_difference: "logit difference",
	kl_divergence: "KL divergence",
};

export const SHOWN: Record<string, string> = {
	recovery: "recovery",
	indirect_effect: "indirect effect",
	score: "patched score",
};

export const DIRECTIONS: Record<string, string> = {
	restore: "restore",
	disrupt: "disrupt",
};

const KINDS: Record<string, string> = {
	multiplicative: "multiplicative",
	additive: "additive",
};

const said = (names: Record<string, string>) => (name: string) =>
	names[name] ?? name.replaceAll("_", " ");

export const blockLabel = said(BLOCKS);
export const siteLabel = said(SITES);
export const metricLabel = said(METRICS);
export const kindLabel = said(KINDS);
export const showLabel = said(SHOWN);

export const EXPLAIN = {
	block: "The part of the model whose hidden states are patched",
	site: "What is patched in a layer: its output, or one of the parts that make it up",
	show: "What the colour of a cell shows",
	clean: "Clean run: the model on the undamaged picture",
	noisy:
		"Corrupted run: the model with noise on the image embeddings, averaged over the noise samples",
	noise: "Noise factor ν: how strong the noise on the image embeddings is",
	metric:
		"How a run is scored: probability of the answer, its logarithm, the logit difference to another answer, or how far the whole distribution moved from the clean run.",
	direction:
		"Restore: put single clean states into the corrupted run and see what comes back. Disrupt: put single corrupted states into the clean run and see what is lost.",
	window:
		"How many neighbouring layers are patched together, around the cell's own layer.",
	kind: "Multiplicative: embeddings times (1 + ν·z), as in the paper on BLIP. Additive: embeddings plus ν·σ·z, as in ROME. z is standard normal noise.",
	samples:
		"How many draws of the noise every number is averaged over: more give smaller standard errors and take longer.",
	seed: "Which draws of the noise are used: the same seed gives the same numbers.",
} as const;

/** What the grid shows, in one line above it. */
export function caption(show: string, direction: string): string {
	const restoring = direction === "restore";
	if (show === "score")
		return restoring
			? "Score of the answer with one state restored"
			: "Score of the answer with one state damaged";
	if (show === "indirect_effect")
		return restoring
			? "How much each state raises the score when it is restored"
			: "How much each state lowers the score when it is damaged";
	return restoring
		? "How much of the lost answer each state brings back"
		: "How much of the total effect each state costs";
}
