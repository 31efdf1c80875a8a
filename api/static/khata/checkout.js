// Makes the card form pleasanter; the form works the same without it.
// Groups digits while they are typed, and says what is missing before the form is sent. The server checks it all again.
"use strict";

(() => {
  const digitsOf = (text) => text.replace(/\D/g, "");

  const groups = (digits) => (/^3[47]/.test(digits) ? [4, 6, 5] : [4, 4, 4, 4, 3]);

  function groupNumber(digits) {
    const parts = [];
    let rest = digits.slice(0, 19);
    for (const size of groups(digits)) {
      if (!rest) break;
      parts.push(rest.slice(0, size));
      rest = rest.slice(size);
    }
    return parts.join(" ");
  }

  function groupExpiry(digits) {
    const padded = /^[2-9]$/.test(digits) ? `0${digits}` : digits;
    const kept = padded.slice(0, /^\d{2}20\d/.test(padded) ? 6 : 4);
    return kept.length > 2 ? `${kept.slice(0, 2)} / ${kept.slice(2)}` : kept;
  }

  // The caret stays behind the digit it was behind, whatever the grouping adds or takes.
  function regroup(input, group) {
    const before = digitsOf(input.value.slice(0, input.selectionStart)).length;
    const grouped = group(digitsOf(input.value));
    if (grouped === input.value) return;
    const atEnd = input.selectionStart === input.value.length;
    input.value = grouped;
    let caret = 0;
    for (let seen = 0; caret < grouped.length && seen < before; caret += 1) {
      if (/\d/.test(grouped[caret])) seen += 1;
    }
    const place = atEnd ? grouped.length : caret;
    input.setSelectionRange(place, place);
  }

  function luhn(digits) {
    let total = 0;
    [...digits].reverse().forEach((digit, place) => {
      const value = Number(digit) * (1 + (place % 2));
      total += value > 9 ? value - 9 : value;
    });
    return total % 10 === 0;
  }

  function expired(digits) {
    const now = new Date();
    const year = Number(digits.length === 6 ? digits.slice(2) : `20${digits.slice(2)}`);
    return year * 12 + Number(digits.slice(0, 2)) < now.getFullYear() * 12 + now.getMonth() + 1;
  }

  const checks = {
    number: (digits) => digits.length >= 12 && digits.length <= 19 && luhn(digits),
    expiry: (digits) => /^(0[1-9]|1[0-2])(\d{2}|20\d{2})$/.test(digits) && !expired(digits),
    cvc: (digits) => /^\d{3,4}$/.test(digits),
  };

  // The sentences come with the page (data-missing, data-wrong), so they are written in one place.
  function complaint(input) {
    const digits = digitsOf(input.value);
    if (!digits) return input.dataset.missing;
    return checks[input.name](digits) ? "" : input.dataset.wrong;
  }

  function show(input, message) {
    document.getElementById(`${input.id}-error`).textContent = message;
    if (message) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
  }

  const cardInputs = (form) => [...form.querySelectorAll("input[data-card]")];

  document.addEventListener("input", ({ target }) => {
    if (!target.matches("input[data-card]")) return;
    if (target.name === "number") regroup(target, groupNumber);
    if (target.name === "expiry") regroup(target, groupExpiry);
    if (target.hasAttribute("aria-invalid") && !complaint(target)) show(target, "");
  });

  // While capturing: htmx, which listens on the form itself, must not send what is not complete.
  document.addEventListener(
    "submit",
    (event) => {
      const inputs = cardInputs(event.target);
      inputs.forEach((input) => show(input, complaint(input)));
      const first = inputs.find((input) => input.hasAttribute("aria-invalid"));
      if (!first) return;
      event.preventDefault();
      event.stopPropagation();
      first.focus();
    },
    true,
  );

  // The connection broke while paying: whether the bank was asked is not known here. Ask, never send again.
  const ask = () => window.location.replace(window.location.pathname);
  document.addEventListener("htmx:sendError", ({ detail }) => {
    if (detail.requestConfig.verb === "post") window.setTimeout(ask, 1500);
  });
  // Anything but a page of this checkout (a proxy's error, say) is not shown in its place.
  document.addEventListener("htmx:responseError", ({ detail }) => {
    if (detail.requestConfig.verb === "post") ask();
  });
})();
