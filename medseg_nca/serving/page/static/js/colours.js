// Colours of labels: those of Okabe and Ito, which people with any colour vision tell apart.

const COLOURS = [
  [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [204, 121, 167], [213, 94, 0], [0, 114, 178],
];

export const colour = (index) => COLOURS[index % COLOURS.length];

export const css = (index) => `rgb(${colour(index).join(" ")})`;
