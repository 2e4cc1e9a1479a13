// Builds the files that the Python package ships; the same input gives the same bytes.
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { build } from "esbuild";
import { minify } from "terser";

const banner = "/* Generated from js/ by npm run build. Do not edit. */";

const options = {
	outdir: "../blip_trace_widget/static",
	bundle: true,
	format: "esm",
	target: ["es2022"],
	minify: true,
	write: false,
	legalComments: "none",
	banner: { css: banner },
	logLevel: "info",
};
const built = await Promise.all([
	build({
		...options,
		entryPoints: { widget: "src/index.ts", dataset: "src/datasetEntry.ts" },
		// Children as arguments are shorter than as a property.
		tsconfigRaw: {
			compilerOptions: {
				jsx: "react",
				jsxFactory: "h",
				jsxFragmentFactory: "Fragment",
			},
		},
		inject: ["src/jsx.ts"],
	}),
	build({ ...options, entryPoints: { page: "src/pageEntry.ts" } }),
]);

/**
 * Hosts import a widget's script once a widget, under another address each time, and browsers keep what a module has
 * evaluated for as long as the page lives. So it evaluates to what the page already has of the same script.
 */
function onceAPage(name, code) {
	const found = code.match(/export\{([\w$]+) as default\};?$/);
	if (found === null) return code; // not a widget's
	const own = code.slice(0, found.index);
	const hash = createHash("sha256").update(code).digest("hex").slice(0, 16);
	const kept = `globalThis[Symbol.for("blip-trace ${name} ${hash}")]`;
	return `export default ${kept}??=(()=>{${own};return ${found[1]}})();`;
}

const outputFiles = built.flatMap((each) => each.outputFiles);

for (const { path, text } of outputFiles) {
	let written = text;
	if (path.endsWith(".js")) {
		// Every widget saved in a notebook holds a copy of the script: terser makes it a twentieth smaller.
		const { code } = await minify(text, {
			module: true,
			ecma: 2022,
			compress: {
				passes: 3,
				keep_fargs: false,
				unsafe: true, // such as “String(x)” written as “"" + x”
				unsafe_arrows: true,
			},
			format: { ascii_only: true }, // else browsers keep two bytes a character
		});
		const name = basename(path, ".js");
		written = `${banner}\n${onceAPage(name, code)}\n`;
	}
	await writeFile(path, written);
}
