// The JSX factory of the bundle (build.mjs).

export { Fragment, h } from "preact";
