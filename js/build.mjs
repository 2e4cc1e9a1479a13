// Builds the two files that the Python package ships; the same input gives the same bytes.
import { build } from "esbuild";

const banner = "/* Generated from js/ by npm run build. Do not edit. */";

await build({
	entryPoints: { widget: "src/index.ts" },
	outdir: "../blip_trace_widget/static",
	bundle: true,
	format: "esm",
	target: ["es2022"],
	minify: true,
	charset: "utf8",
	legalComments: "none",
	banner: { js: banner, css: banner },
	jsx: "automatic",
	jsxImportSource: "preact",
	logLevel: "info",
});
