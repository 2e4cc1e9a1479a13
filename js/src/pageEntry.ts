// The entry of page.js: shows what the page holds.

import { show } from "./page";

const saved = document.getElementById("saved");
const figure = document.getElementById("figure");
if (saved !== null && figure !== null) show(saved.textContent, figure);
