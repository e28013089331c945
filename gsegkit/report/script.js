"use strict";
// The page is complete without this: it adds the opacity slider and the copy buttons.
document.documentElement.classList.add("js");

const slider = document.getElementById("overlay");
if (slider) {
  slider.addEventListener("input", () => {
    document.documentElement.style.setProperty("--overlay", slider.value / 100);
  });
}

for (const button of document.querySelectorAll(".command button")) {
  if (!navigator.clipboard) continue; // pages opened from a file may not have it
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}
