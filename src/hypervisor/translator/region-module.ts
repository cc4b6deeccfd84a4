// Makes a module of regions. The module imports the shared memory, the thread's function table, and the
// helpers of the engine's module by name; its instantiation puts its functions into their slots of the table.
import { buildModule } from "../../wasm/module.ts";
import { ENGINE_MEMORY } from "../interpreter/engine-parts.ts";
import type { Region } from "./region.ts";
import { InstructionTemplates } from "./instruction-templates.ts";
import type { TranslationMode } from "./instruction-writer.ts";
import { translateRegion } from "./region-translator.ts";

export interface PlacedRegion {
  readonly region: Region;
  readonly slot: number;
  /** Address of the page's table of translations. */
  readonly table: number;
}

export class RegionModules {
  readonly #helpers: ReadonlySet<string>;
  readonly #mode: TranslationMode;
  readonly #templates: InstructionTemplates;

  /** For an engine that exports these functions. */
  constructor(helpers: ReadonlySet<string>, mode: TranslationMode) {
    this.#helpers = helpers;
    this.#mode = mode;
    this.#templates = new InstructionTemplates(mode);
  }

  /** The module's bytes; `improved`: of improved translations, not of first ones. */
  build(regions: readonly PlacedRegion[], improved: boolean): Uint8Array<ArrayBuffer> {
    const templates = improved ? undefined : this.#templates;
    return buildModule({
      memory: ENGINE_MEMORY,
      exports: {},
      table: {
        module: "env",
        name: "table",
        elements: regions.map(({ region, slot, table }) => ({
          at: slot,
          fn: translateRegion(
            `region ${region.page.toString(16)} ${slot}`,
            region,
            this.#mode,
            { slot, table },
            templates,
          ),
        })),
      },
      externals: { module: "engine", names: this.#helpers },
    });
  }
}
