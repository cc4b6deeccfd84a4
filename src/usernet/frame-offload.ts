// What a frame leaves to its receiver, a guest's kernel or the network, in the shape of a network card's
// backend (NetBackend).

/**
 * The receiver adds the checksum from `sumStart` on, of which the field at `sumOffset` behind has the
 * pseudo-header's sum; with `segmentBytes`, the frame counts as segments with so many bytes of data.
 */
export interface TcpOffload {
  readonly family: 4 | 6;
  readonly sumStart: number;
  readonly sumOffset: number;
  readonly segmentBytes: number;
  readonly headerBytes: number;
}

/** Takes a frame for a guest, and what is left to that guest. */
export type FrameListener = (frame: Uint8Array, offload?: TcpOffload) => void;

/** What the guest's card takes. */
export interface GuestOffloads {
  readonly checksum: boolean;
  readonly segments: { readonly 4: boolean; readonly 6: boolean };
}

export const NO_OFFLOADS: GuestOffloads = { checksum: false, segments: { 4: false, 6: false } };
