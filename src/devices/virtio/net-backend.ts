// The network behind a virtio network device. Platforms implement it: sockets in Node, a pair for tests.
import type { FrameOffload } from "./frames/frame-segments.ts";

/** What the guest's driver takes: checksums left to it, and large frames of TCP over IPv4 and IPv6. */
export interface OffloadsTaken {
  readonly checksum: boolean;
  readonly segments: { readonly 4: boolean; readonly 6: boolean };
}

/** The network behind a network card: whole Ethernet frames. */
export interface NetBackend {
  /**
   * Sends one Ethernet frame without its checksum. The backend may keep the bytes, which nobody changes any
   * more; frames may be lost. With `setOffloads`, it takes what a frame leaves to it.
   */
  send(frame: Uint8Array, offload?: FrameOffload): void;
  /** False while the network is full: the guest's frames wait in its queue. Default: true. */
  readonly writable?: boolean;
  /** Calls `listener` each time `writable` has become true. */
  onWritable?(listener: () => void): void;
  /** `listener` receives each frame that arrives and owns its bytes. */
  onFrame(listener: (frame: Uint8Array, offload?: FrameOffload) => void): void;
  /**
   * A network that can leave work to the guest hears what the driver takes, at first nothing. It takes frames
   * that leave work to it.
   */
  readonly setOffloads?: ((taken: OffloadsTaken) => void) | undefined;
  /**
   * The guest has no room for frames (false), or has room again (true): the backend keeps them meanwhile, and
   * makes their sender wait. Without this, frames are lost if the guest is slow.
   */
  setReceiving?(on: boolean): void;
}
