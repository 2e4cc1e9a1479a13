// Drives Firefox for tests/browser/test_firefox.py: a saved page and a notebook in JupyterLab, and says what was seen.
// Arguments: the browser, the page's address, the notebook's. Prints JSON.

import puppeteer from "puppeteer-core";

const [executablePath, saved, notebook] = process.argv.slice(2);
const PATIENCE = 120_000;
/** Everything that a hand may lie on. */
const REGIONS = {
	head: ".bt-title",
	cell: ".bt-cell",
	token: ".bt-token",
	picture: ".bt-patches",
	chooser: "[data-testid=overlay]",
	question: "[data-testid=question]",
	slider: "[data-testid=noise-slider]",
	number: "[data-testid=noise-number]",
	bars: ".bt-bars",
};

const browser = await puppeteer.launch({
	browser: "firefox",
	executablePath,
	headless: true,
	timeout: PATIENCE,
	protocolTimeout: PATIENCE,
	defaultViewport: { width: 1100, height: 500 },
});

async function open(address) {
	const page = await browser.newPage();
	page.setDefaultTimeout(PATIENCE);
	const errors = [];
	page.on("pageerror", ({ message }) => errors.push(message));
	await page.goto(address);
	return [page, errors];
}

/** Where the middle of an element is, once it is in the middle of the window. */
function placeOf(page, selector) {
	return page.$eval(selector, async (element) => {
		element.scrollIntoView({ block: "center", behavior: "instant" });
		await new Promise(requestAnimationFrame);
		const { x, y, width, height } = element.getBoundingClientRect();
		return [x + width / 2, y + Math.min(height / 2, 60)];
	});
}

const cell = (layer, position) =>
	`[data-layer="${layer}"][data-position="${position}"]`;

const has = (page, selector, state) =>
	page.waitForSelector(`${selector}${state}`);

/** Regions over which the wheel does not scroll what `scroller` finds. */
async function dead(page, scroller) {
	const found = [];
	const top = () =>
		page.evaluate((name) => document.querySelector(name).scrollTop, scroller);
	for (const [name, selector] of Object.entries(REGIONS)) {
		await page.$eval(selector, (element) => {
			if (!element.disabled) element.focus({ preventScroll: true });
		});
		const [x, y] = await placeOf(page, selector);
		const before = await top();
		await page.mouse.move(x, y);
		await page.mouse.wheel({ deltaY: 90 });
		const scrolled = page.waitForFunction(
			(where, from) => document.querySelector(where).scrollTop > from,
			{ timeout: PATIENCE / 4 },
			scroller,
			before,
		);
		await scrolled.catch(() => found.push(name));
	}
	return found;
}

/** A cell by mouse, its neighbour by keys. */
async function selects(page, state) {
	await page.mouse.click(...(await placeOf(page, cell(5, 5))));
	await has(page, cell(5, 5), `[aria-selected=true]${state}`);
	await page.waitForSelector(".bt-tooltip");
	const tip = await page.$eval(".bt-tooltip", (e) => e.textContent);
	await page.keyboard.press("ArrowLeft");
	await page.keyboard.press("Enter");
	await has(page, cell(4, 5), `[aria-selected=true]${state}`);
	const values = [];
	for (const layer of [5, 4])
		values.push(await page.$eval(cell(layer, 5), (e) => e.dataset.value));
	return { tip, values: values.map(Number) };
}

async function readsPage() {
	const [page, errors] = await open(saved);
	await page.addStyleTag({ content: "body { padding-block: 400px; }" });
	await has(page, cell(5, 5), "[data-state=value]");
	const seen = await selects(page, "");
	return { ...seen, dead: await dead(page, "html"), errors };
}

/** Noise and selection in the kernel, once it has been told the noise: what the hand did takes its way there. */
async function told(page, noise) {
	const code =
		"import json\nwidget.wait()\nprint(json.dumps([widget.noise, widget.selection]))";
	const end = Date.now() + PATIENCE;
	let kernel = [];
	while (kernel[0] !== noise && Date.now() < end) {
		const said = await page.evaluate(async (asked) => {
			const { session } = window.jupyterapp.shell.currentWidget.sessionContext;
			const future = session.kernel.requestExecute({ code: asked });
			let text = "";
			future.onIOPub = ({ header, content }) => {
				if (header.msg_type === "stream") text += content.text;
			};
			await future.done;
			return text;
		}, code);
		kernel = JSON.parse(said);
	}
	return kernel;
}

async function usesNotebook() {
	const [page, errors] = await open(notebook);
	await page.waitForFunction(
		() => window.jupyterapp?.shell?.currentWidget?.sessionContext,
	);
	await page.evaluate(async () => {
		const app = window.jupyterapp;
		await app.restored;
		const { currentWidget } = app.shell;
		await currentWidget.revealed;
		await currentWidget.sessionContext.ready;
		await currentWidget.sessionContext.session.kernel.info;
		if (!app.shell.leftCollapsed) app.shell.collapseLeft();
		await app.commands.execute("notebook:run-all-cells");
	});
	await page.waitForFunction(() =>
		/\d/.test(
			document.querySelector("[data-testid=corrupted-score]")?.textContent,
		),
	);
	const seen = await selects(page, "[data-state=value]");
	const scroller = ".jp-WindowedPanel-outer";
	const held = await dead(page, scroller);

	const slider = "[data-testid=noise-slider]";
	await page.focus(slider);
	await page.keyboard.press("ArrowRight");
	await page.waitForFunction(
		(name) => document.querySelector(name).value === "5.1",
		{},
		slider,
	);
	const [x, y] = await placeOf(page, slider);
	await page.mouse.move(x, y);
	await page.mouse.down();
	await page.mouse.move(x + 40, y, { steps: 4 });
	await page.mouse.up();
	const noise = Number(await page.$eval(slider, (e) => e.value));
	await page.evaluate(() => {
		window.jupyterapp.shell.currentWidget.context.model.dirty = true;
	});
	await page.keyboard.down("Control");
	await page.keyboard.press("s");
	await page.keyboard.up("Control");
	await page.waitForFunction(
		() => !window.jupyterapp.shell.currentWidget.context.model.dirty,
	);
	const kernel = await told(page, noise);
	await page.evaluate(() =>
		window.jupyterapp.shell.currentWidget.sessionContext.shutdown(),
	);
	return { ...seen, dead: held, noise, kernel, errors };
}

try {
	const seen = [await readsPage(), await usesNotebook()];
	console.log(JSON.stringify(seen));
} finally {
	await browser.close();
}
