// A terminal recording as one animated SVG without scripts, fonts, or references to other files. Each line
// has versions, and CSS shows each version at its time. Supports the output of our programs: CR, LF,
// backspace, cursor column and row, erase, wrapping on and off. Left out: colours and all other sequences.

/** Output of a terminal: seconds since the start, and the text. */
export interface OutputEvent {
  readonly atSeconds: number;
  readonly text: string;
}

interface Version {
  readonly atSeconds: number;
  readonly text: string;
}

interface Line {
  readonly versions: Version[];
}

const FONT_SIZE = 13;
const CHAR_WIDTH = 7.8;
const LINE_HEIGHT = 18;
const MARGIN = 16;
const TITLE_HEIGHT = 30;

/** The maximum number of versions shown for a line that changes often, such as a progress bar. */
const MAX_VERSIONS = 12;

/** Longer pauses are shortened to this; a caption should say so. */
const LONGEST_PAUSE_SECONDS = 1.2;

/** Renders events, oldest first, on a terminal with `columns` columns. */
export function terminalSvg(events: readonly OutputEvent[], columns: number, title: string): string {
  const lines = screen(shortenPauses(events), columns);
  const width = Math.ceil(columns * CHAR_WIDTH + 2 * MARGIN);
  const height = TITLE_HEIGHT + lines.length * LINE_HEIGHT + MARGIN;
  const body: string[] = [];
  lines.forEach(({ versions }, row) => {
    const shown = thin(versions);
    const y = TITLE_HEIGHT + (row + 0.75) * LINE_HEIGHT;
    shown.forEach(({ atSeconds, text }, index) => {
      if (text.trim() === "") return;
      const next = shown[index + 1];
      const on = milliseconds(atSeconds);
      const [kind, animation] =
        next === undefined
          ? ["last", `h ${on}ms`]
          : ["past", `v ${milliseconds(next.atSeconds) - on}ms ${on}ms`];
      body.push(
        `<text class="${kind}" x="${MARGIN}" y="${y}" style="animation:${animation}">${escape(text)}</text>`,
      );
    });
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img">`,
    `<title>${escape(title)}</title>`,
    "<style>",
    `text{font:${FONT_SIZE}px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace;fill:#d8dee9;white-space:pre}`,
    // Without animation, the last version of each line is shown.
    ".past{visibility:hidden}@keyframes h{from,to{visibility:hidden}}@keyframes v{from,to{visibility:visible}}",
    "@media (prefers-reduced-motion){text{animation:none!important}}",
    "</style>",
    `<rect width="${width}" height="${height}" rx="8" fill="#1b2029"/>`,
    ...["#e0645c", "#dfb049", "#6aa84f"].map(
      (fill, index) => `<circle cx="${MARGIN + 4 + index * 18}" cy="16" r="5" fill="${fill}"/>`,
    ),
    `<text x="${MARGIN + 66}" y="20" style="fill:#7d8796">${escape(title)}</text>`,
    ...body,
    "</svg>",
    "",
  ].join("\n");
}

const milliseconds = (seconds: number): number => Math.round(seconds * 1000);

function shortenPauses(events: readonly OutputEvent[]): OutputEvent[] {
  let at = 0;
  let before = 0;
  return events.map(({ atSeconds, text }) => {
    at += Math.min(atSeconds - before, LONGEST_PAUSE_SECONDS);
    before = atSeconds;
    return { atSeconds: at, text };
  });
}

/** The versions to show: all, or a selection spread evenly that includes the last one. */
function thin(versions: readonly Version[]): Version[] {
  if (versions.length <= MAX_VERSIONS) return [...versions];
  const step = (versions.length - 1) / (MAX_VERSIONS - 1);
  return Array.from({ length: MAX_VERSIONS }, (_, index) => versions[Math.round(index * step)]).filter(
    (version) => version !== undefined,
  );
}

/** An escape sequence that was read in two pieces is moved to the later event. */
function wholeSequences(events: readonly OutputEvent[]): OutputEvent[] {
  let rest = "";
  return events.map(({ atSeconds, text }) => {
    const all = rest + text;
    // oxlint-disable-next-line no-control-regex -- see TOKENS
    rest = /\x1b(?:\[[0-?]*[ -/]*)?$/.exec(all)?.[0] ?? "";
    return { atSeconds, text: all.slice(0, all.length - rest.length) };
  });
}

/** Writes the events to a screen that is long enough never to scroll. */
function screen(events: readonly OutputEvent[], columns: number): Line[] {
  const rows: string[][] = [[]];
  const lines: Line[] = [{ versions: [] }];
  let row = 0;
  let column = 0;
  let wraps = true;
  const moveTo = (target: number): void => {
    row = Math.max(0, target);
    while (rows.length <= row) {
      rows.push([]);
      lines.push({ versions: [] });
    }
  };
  for (const { atSeconds, text } of wholeSequences(events)) {
    for (const [token, , parameters = "", final] of text.matchAll(TOKENS)) {
      const count = Number.parseInt(parameters, 10) || 1;
      const cells = rows[row] ?? [];
      if (final !== undefined) {
        if (parameters === "?7") wraps = final === "h";
        else if (final === "G") column = count - 1;
        else if (final === "A") moveTo(row - count);
        else if (final === "B") moveTo(row + count);
        else if (final === "C") column += count;
        else if (final === "D") column = Math.max(0, column - count);
        else if (final === "K") cells.length = parameters === "2" ? 0 : Math.min(cells.length, column);
        else if (final === "J") {
          cells.length = Math.min(cells.length, column);
          rows.slice(row + 1).forEach((below) => (below.length = 0));
        }
      } else if (token === "\r") column = 0;
      else if (token === "\n") moveTo(row + 1);
      else if (token === "\b") column = Math.max(0, column - 1);
      else if (token === "\t") column = (column & ~7) + 8;
      else if (token >= " " && token !== "\x7f" && !token.startsWith("\x1b")) {
        if (column >= columns && wraps) {
          moveTo(row + 1);
          column = 0;
        }
        column = Math.min(column, columns - 1);
        const target = rows[row] ?? [];
        while (target.length < column) target.push(" ");
        target[column++] = token;
      }
    }
    rows.forEach((cells, index) => {
      const now = cells.join("").trimEnd();
      const versions = lines[index]?.versions ?? [];
      if ((versions.at(-1)?.text ?? "") !== now) versions.push({ atSeconds, text: now });
    });
  }
  while (lines.at(-1)?.versions.at(-1)?.text.trim() === "" || lines.at(-1)?.versions.length === 0)
    lines.pop();
  return lines;
}

/** CSI sequences, with parameters and final byte; OSC and other escapes; characters. */
// oxlint-disable-next-line no-control-regex -- matches escape sequences
const TOKENS = /\x1b(\[)([0-?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[^[\]]|./gsu;

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
