// After a page has been exchanged in place, the reader and the keyboard start at its heading.
"use strict";

document.addEventListener("htmx:afterSettle", ({ detail }) => {
  if (!detail.boosted && detail.target?.id !== "main") return;
  const place = document.querySelector(window.location.hash || "#main h1");
  if (place) {
    place.setAttribute("tabindex", "-1");
    place.focus({ preventScroll: !window.location.hash });
  }
});
