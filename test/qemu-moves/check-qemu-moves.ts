// `npm run check:qemu-moves-RELEASE`: a running Debian moves between QEMU and Wherry, over every transport,
// idle and busy, on one hart and four: its own check passes, its clock neither jumps nor freezes, its kernel
// logs no error.
//   --release R[,R], --route QWQ[,…], --harts N[,N], --load idle|busy, --virtio legacy|modern, --at-once N
//   --logs FOLDER, --minutes N (no route begins later than that)
//   --planted: planted faults, each of which must be found, and nothing else
import { mkdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { QemuRelease } from "../../tools/unpacked.ts";
import { Cases, directory, options } from "../support/cases.ts";
import { type Cell, nameOf, runCell } from "./cell.ts";
import { buildGuest } from "./guest.ts";
import { TRANSPORTS, type Transport, transportsOf } from "./hop.ts";
import type { Kind } from "./sides.ts";

const given = options({
  release: "7.2,10.0,11.1",
  route: "QW,WQ,WQW,QWQ",
  harts: "1,4",
  load: "idle,busy",
  transport: TRANSPORTS.join(),
  "at-once": 2,
  virtio: "",
  minutes: 0,
  planted: false,
  logs: join(tmpdir(), "wherry-qemu-logs"),
});
const CELL_MS = 300_000;

const kinds = (route: string): Kind[] => [...route].map((letter) => (letter === "Q" ? "qemu" : "wherry"));

/**
 * All cells of a release. Transports and virtio versions alternate, so that each is used in both directions.
 * The first half, like the white squares of a chessboard, has each value of each axis: a slow host completes
 * that half in time.
 */
function matrix(release: QemuRelease): Cell[] {
  const list = (values: string): string[] => values.split(",");
  const transports = transportsOf(release).filter((each) => list(given.transport).includes(each));
  const squares = list(given.route).flatMap((route, r) =>
    list(given.harts).flatMap((harts, h) =>
      list(given.load).map((load, l) => ({
        route,
        harts: Number(harts),
        load,
        white: (r + h + l) % 2 === 0,
      })),
    ),
  );
  const cells = squares.map(({ route, harts, load, white }, turn) => ({
    white,
    cell: {
      release,
      route: kinds(route),
      harts,
      busy: load === "busy",
      transports: Array.from(
        { length: route.length - 1 },
        (_, i) => transports[(turn + i) % transports.length] as Transport,
      ),
      legacy: given.virtio === "" ? turn % 3 !== 2 : given.virtio === "legacy",
    },
  }));
  return [...cells.filter(({ white }) => white), ...cells.filter(({ white }) => !white)].map(
    ({ cell }) => cell,
  );
}

/** Planted faults: QEMU 7.2 freezes the timers of its own guests, and a file with an advanced clock. */
const PLANTED: readonly { readonly cell: Cell; readonly found: RegExp }[] = [
  {
    cell: { release: "7.2", route: kinds("QQ"), harts: 4, busy: true, transports: ["unix"], legacy: true },
    // How it shows depends on which timers were pending.
    found: /clock, timers and work continue: not within|made 0 ticks|detected stalls/,
  },
  {
    cell: {
      ...{ release: "10.0", route: kinds("QQ"), harts: 1, busy: false, transports: ["file"], legacy: true },
      plantedJumpNs: 5_000_000_000n,
    },
    found: /the guest's clock is [45]\d{3} ms off after the move/,
  },
];

async function findsPlanted(): Promise<never> {
  const cases = new Cases("qemu-moves: planted faults", PLANTED.length);
  const guest = buildGuest(directory);
  for (const { cell, found } of PLANTED) {
    await cases.run(nameOf(cell), CELL_MS, async () => {
      const others: string[] = [];
      // A move of QEMU 7.2 between two ticks of all harts freezes none.
      for (let attempt = 0; attempt < 3; attempt++) {
        const { complaints } = await runCell(cell, guest);
        const finding = complaints.find((complaint) => found.test(complaint));
        if (finding !== undefined) return `found: ${finding}`;
        others.push(...complaints);
      }
      throw new Error(`not found: ${others.join("; ")}`);
    });
  }
  return cases.end();
}

if (given.planted) await findsPlanted();
const cells = (given.release.split(",") as QemuRelease[]).flatMap(matrix);
const cases = new Cases(
  `qemu-moves: ${cells.length} journeys, logs of failures in ${given.logs}`,
  cells.length,
);
const guest = buildGuest(directory);
const next = cells.values();

async function travel(cell: Cell): Promise<string> {
  const { complaints, facts, log } = await runCell(cell, guest);
  if (complaints.length === 0) return facts;
  mkdirSync(given.logs, { recursive: true });
  const path = join(given.logs, `${nameOf(cell).replace(/[^\w.]+/g, "-")}.log`);
  writeFileSync(path, `${complaints.join("\n")}\n${facts}\n${log}`);
  throw new Error(`${complaints.slice(0, 3).join("; ")} (${path})`);
}

const began = performance.now();
let late = 0;

async function work(): Promise<void> {
  for (const cell of next) {
    if (given.minutes > 0 && performance.now() - began > given.minutes * 60_000) {
      console.log(`${nameOf(cell)}: not begun, ${given.minutes} minutes are over`);
      late++;
    } else await cases.run(nameOf(cell), CELL_MS, () => travel(cell));
  }
}
await Promise.all(Array.from({ length: given["at-once"] }, work));
if (late > cells.length / 2) throw new Error(`${late} of ${cells.length} journeys were not begun`);
cases.end();
