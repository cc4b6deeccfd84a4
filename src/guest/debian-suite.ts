// The default Debian release of guests. In a file of its own, because the command line's help names it
// without loading the code that fetches.
export const DEFAULT_SUITE = "trixie";
