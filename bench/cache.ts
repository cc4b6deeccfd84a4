// Where the bench keeps what it has built and fetched: per user, outside the tree.
import { access } from "node:fs/promises";
import { join } from "node:path";
import { defaultCache } from "../src/guest/debian.ts";

export const cache: string = join(defaultCache(), "bench");

export const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    () => false,
  );
