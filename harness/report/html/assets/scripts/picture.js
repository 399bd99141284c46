// Colours and text of a picture's cells. The lightness of both colour maps is monotonic, so that they work in grey too.
const VALUES = [[38, 22, 92], [50, 75, 145], [35, 125, 150], [60, 170, 130], [165, 205, 85], [250, 235, 130]];
const ERRORS = [[255, 240, 224], [253, 200, 145], [242, 140, 80], [205, 70, 45], [125, 15, 35]];
const NOTHING = [247, 245, 241];
const DECADES = 6;

function mixed(stops, share) {
  const place = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const at = Math.min(Math.floor(place), stops.length - 2);
  return stops[at].map((from, channel) => Math.round(from + (stops[at + 1][channel] - from) * (place - at)));
}

const rgb = (colour) => `rgb(${colour.join(" ")})`;

// Black or white, whichever has more contrast, by the relative luminance of the background.
function inkOn([red, green, blue]) {
  const [r, g, b] = [red, green, blue].map((part) => (part / 255 <= 0.04045 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000" : "#fff";
}

// The scale that expected and actual share, and the scale of the error: linear for values, in decades for errors.
function scalesOf(picture) {
  const finite = [...picture.expected, ...picture.actual].flat().map(real).filter(Number.isFinite);
  const errors = picture.error.flat().map(real).filter((error) => Number.isFinite(error) && error > 0);
  const [low, high] = [Math.min(...finite), Math.max(...finite)];
  const most = Math.max(...errors);
  return {
    values: { low, high, stops: VALUES, empty: !finite.length, share: (value) => (high > low ? (value - low) / (high - low) : 0.5) },
    errors: { low: most / 10 ** DECADES, high: most, stops: ERRORS, empty: !errors.length, share: (error) => 1 + Math.log10(error / most) / DECADES },
  };
}

// The background of one cell; null for a value that is not on the scale, whose cell is hatched.
function ground(value, scale, isError) {
  if (isError && value === 0) return NOTHING;
  return Number.isFinite(value) ? mixed(scale.stops, scale.share(value)) : null;
}

// The picture in one sentence, also for screen readers.
function summaryOf(picture) {
  const errors = picture.error.flat().map(real);
  const off = errors.filter((error) => error !== 0 && !Number.isNaN(error)).length;
  const lost = errors.filter((error) => error === Infinity).length;
  const undefinedCells = errors.filter(Number.isNaN).length;
  return [
    `${off.toLocaleString("en")} of ${count(errors.length, "cell")} differ`,
    lost ? `${lost} of them because only one side is finite` : "",
    undefinedCells ? `${undefinedCells} not defined and not compared` : "",
  ].filter(Boolean).join(", ");
}
