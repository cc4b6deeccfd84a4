// The bench as an SVG bar chart: the ratio of Wherry's speed to QEMU's for each program, on a logarithmic
// scale.
import { type Figures, meanSpeed, rival, speedOf, taken, WHERRY } from "./figures.ts";

const WIDTH = 720;
const LABELS = 130;
const ROW = 20;
const TOP = 56;
const RIGHT = 60;

export const STYLE: string = `
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 15px; font-weight: 600 }
  .small { font-size: 11px; fill: #6e7781 }
  .grid { stroke: #d0d7de } .one { stroke: #24292f; stroke-width: 1.5 }
  .faster { fill: #2da44e } .slower { fill: #bf8700 } .mean { fill: #0969da }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #8b949e } .grid { stroke: #30363d } .one { stroke: #e6edf3 }
  }`;

export const escape = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** An SVG document. Programs that either side has not run are omitted. Throws if no QEMU ran. */
export function chart(figures: Figures): string {
  const qemu = rival(figures);
  if (qemu === undefined) throw new Error("a chart needs a QEMU to compare with");
  const bars = figures.programs.flatMap((program) => {
    const { name, harts } = program;
    const speed = speedOf(taken(figures, program), WHERRY, qemu);
    return speed === undefined ? [] : [{ name, speed, kind: speed >= 1 ? "faster" : "slower", harts }];
  });
  const { mean, count } = meanSpeed(figures, 1, qemu);
  if (count > 0) bars.push({ name: "mean, one hart", speed: mean, kind: "mean", harts: 1 });
  const logs = bars.map(({ speed }) => Math.log2(speed));
  const [low, high] = [Math.floor(Math.min(-1, ...logs)), Math.ceil(Math.max(1, ...logs))];
  const x = (speed: number): number =>
    LABELS + ((Math.log2(speed) - low) / (high - low)) * (WIDTH - LABELS - RIGHT);
  const height = TOP + bars.length * ROW + 34;
  const parts: string[] = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">`,
    `<style>${STYLE}\n</style>`,
    `<text x="8" y="20" class="title">Speed of Wherry over ${escape(qemu)} (TCG) on the same machine</text>`,
    `<text x="8" y="38" class="small">${escape(figures.guest)}; ${escape(figures.host)}; medians of ${figures.rounds}${figures.clock === "cpu" ? ", processor time" : ""}, log scale</text>`,
  ];
  for (let power = low; power <= high; power++) {
    const at = x(2 ** power).toFixed(1);
    const label = power < 0 ? `1/${2 ** -power}` : `${2 ** power}`;
    parts.push(
      `<line x1="${at}" x2="${at}" y1="${TOP - 6}" y2="${height - 28}" class="${power === 0 ? "one" : "grid"}"/>`,
      `<text x="${at}" y="${height - 12}" text-anchor="middle" class="small">${label}×</text>`,
    );
  }
  const one = x(1);
  for (const [i, { name, speed, kind, harts }] of bars.entries()) {
    const y = TOP + i * ROW;
    const end = x(speed);
    const text = `${speed.toFixed(2)}×`;
    parts.push(
      `<text x="${LABELS - 8}" y="${y + 13}" text-anchor="end">${escape(name)}${harts > 1 ? " ²" : ""}</text>`,
      `<rect x="${Math.min(one, end).toFixed(1)}" y="${y + 3}" width="${Math.max(1, Math.abs(end - one)).toFixed(1)}" height="${ROW - 7}" class="${kind}"/>`,
      `<text x="${(Math.max(one, end) + 5).toFixed(1)}" y="${y + 13}" class="small">${text}</text>`,
    );
  }
  if (bars.some(({ harts }) => harts > 1))
    parts.push(`<text x="8" y="${height - 12}" class="small">² two harts</text>`);
  return `${[...parts, "</svg>"].join("\n")}\n`;
}
