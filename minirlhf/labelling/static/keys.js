"use strict";
// The keys of the page: each presses the button or the link that is there without this script.
const ANSWERS = {ArrowLeft: "left", ArrowRight: "right", ArrowDown: "tie", t: "tie", s: "skip"};
const BACK = ["b", "Backspace"];
let leaving = false;                     // one answer a pair, however often a key is pressed

document.querySelector("form.answers")?.addEventListener("submit", event => {
  if (leaving) event.preventDefault();
  leaving = true;
});

// Arrow down is a tie once both replies are in view, and in the guidelines never: else it scrolls.
function scrolls(event) {
  if (event.key !== "ArrowDown") return false;
  if (event.target.closest("aside")) return true;
  const [replies, buttons] = [".replies", ".answers"].map(
    part => document.querySelector(part)?.getBoundingClientRect());
  return replies !== undefined && replies.bottom > buttons.top + 1;
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;   // the browser's own, such as Alt+←
  if (scrolls(event)) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const target = BACK.includes(key)
    ? document.getElementById("back")
    : document.querySelector(`button[name=answer][value="${ANSWERS[key]}"]`);
  if (!target) return;
  event.preventDefault();
  if (!event.repeat) target.click();     // a key that is held down answers no second pair
});
