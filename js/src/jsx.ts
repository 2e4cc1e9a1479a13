// What JSX is made into, for the bundle (build.mjs).

export { Fragment, h } from "preact";
