// Shows the confusion matrix, and recall, precision and F1 of each label, at the row of the curve
// that the slider is at. The names that are not defined here are the arguments that
// report_classes.py gives.
const row = rows[Math.min(Math.round(slider.value), rows.length - 1)];
const numLabels = names.length;
const matrix = Array.from(atOne);
for (let change = 0; change < changeRows.length; change++) {
  if (changeRows[change] > row) {
    matrix[labels[change] * numLabels + before[change]] -= 1;
    matrix[labels[change] * numLabels + after[change]] += 1;
  }
}
const sums = (counts) => {
  const ofLabels = new Array(numLabels).fill(0), ofAnswers = new Array(numLabels).fill(0);
  counts.forEach((count, place) => {
    ofLabels[Math.floor(place / numLabels)] += count;
    ofAnswers[place % numLabels] += count;
  });
  return [ofLabels, ofAnswers];
};
const [ofLabels, ofAnswers] = sums(matrix);

const shown = { answer: [], label: [], color: [], alpha: [], ink: [], count: [], share: [],
  of_label: [], answered: [] };
matrix.forEach((count, place) => {
  if (count === 0) return;
  const label = Math.floor(place / numLabels), answer = place % numLabels;
  const share = count / ofLabels[label];
  // So that the few wrong answers are seen beside the many right ones.
  const alpha = answer === label ? share : Math.sqrt(share);
  shown.answer.push(answer);
  shown.label.push(label);
  shown.color.push(answer === label ? rightColor : wrongColor);
  shown.alpha.push(alpha);
  shown.ink.push(alpha > 0.6 ? "white" : "black");
  shown.count.push(count);
  shown.share.push(share);
  shown.of_label.push(names[label]);
  shown.answered.push(names[answer]);
});
cells.data = shown;

const show = (id, numerator, denominator) => {
  const text = denominator > 0 ? (numerator / denominator).toFixed(4) : "";
  document.getElementById(id).textContent = text;
};
let sumOfF1 = 0, numCounted = 0;
for (let label = 0; label < numLabels; label++) {
  const right = matrix[label * numLabels + label];
  const either = ofLabels[label] + ofAnswers[label];
  show("recall-at-one-" + label, atOne[label * numLabels + label], ofLabels[label]);
  show("recall-" + label, right, ofLabels[label]);
  show("precision-" + label, right, ofAnswers[label]);
  show("f1-" + label, 2 * right, either);
  if (either > 0) {
    sumOfF1 += 2 * right / either;
    numCounted += 1;
  }
}
show("macro-f1", sumOfF1, numCounted);
