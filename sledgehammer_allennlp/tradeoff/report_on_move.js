// Shows the row of the curve that the slider is at. The names that are not defined here are the
// arguments that report.py gives.
const row = Math.min(Math.round(slider.value), curve.data.threshold.length - 1);
const of = (name) => curve.data[name][row];
const show = (id, text) => {
  document.getElementById(id).textContent = text;
};
const threshold = of("threshold");
// What was typed stays as long as the slider stands at its row.
const isTyped = typed.value !== null && typed.tags[0] === row;
if (!isTyped) typed.value = null;
const layers = of("layer_equivalents");
const percent = (share) => (100 * share).toFixed(2) + " %";

show("threshold", String(isTyped && isWhole ? typed.value : threshold));
show("accuracy", percent(of("accuracy")));
show("interval", percent(of("low")) + " to " + percent(of("high")));
const speedUp = full / layers;
show("speed-up", layers > 0 ? speedUp.toFixed(speedUp < 100 ? 2 : 0) + "×" : "no layer run");
show("layer-equivalents", layers.toFixed(3));

here.data = { x: [of("x")], accuracy: [of("accuracy")] };
shares.data = { exit: exitNames, share: counts.map((count) => count[row] / numInstances) };

confidences.forEach((ofExits, example) => {
  const confident = ofExits.findIndex((confidence, exit) =>
    exit === ofExits.length - 1 || (threshold < 1 && confidence >= Math.fround(threshold)));
  show("exit-" + example, exitNames[confident]);
  show("answer-" + example, answers[example][confident]);
  show("confidence-" + example, ofExits[confident].toFixed(3));
});
