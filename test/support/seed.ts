// The seed of the random cases of a test run. vitest.config.ts sets and prints it: `npm test` uses the same
// one each time, WHERRY_SEED=N replays another run, WHERRY_SEED=fresh takes one from the clock (`npm run
// check:seeds`).
export const seed = Number(process.env["WHERRY_SEED"]);
if (!Number.isSafeInteger(seed)) throw new Error("WHERRY_SEED is not set: vitest.config.ts does that");
