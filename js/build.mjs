// Builds the files that the Python package ships; the same input gives the same bytes.
import { writeFile } from "node:fs/promises";
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
	charset: "utf8",
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
			format: { preamble: banner },
		});
		written = `${code}\n`;
	}
	await writeFile(path, written);
}
