// The Debian release that guests are made of unless another is asked for. Apart from what fetches them, because the
// command line's help names it.
export const DEFAULT_SUITE = "trixie";
