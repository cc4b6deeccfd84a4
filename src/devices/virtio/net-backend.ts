// The network behind a virtio network device. Platforms implement it: sockets in Node, a pair for tests.

/** The network behind a network card: whole Ethernet frames. */
export interface NetBackend {
  /**
   * Sends one Ethernet frame without its checksum. The backend may keep the bytes, which nobody changes any
   * more; frames may be lost.
   */
  send(frame: Uint8Array): void;
  /** False while the network is full: the guest's frames wait in its queue. Default: true. */
  readonly writable?: boolean;
  /** Calls `listener` each time `writable` has become true. */
  onWritable?(listener: () => void): void;
  /** `listener` receives each frame that arrives and owns its bytes. */
  onFrame(listener: (frame: Uint8Array) => void): void;
  /**
   * The guest has no room for frames (false), or has room again (true): the backend keeps them meanwhile, and
   * makes their sender wait. Without this, frames are lost if the guest is slow.
   */
  setReceiving?(on: boolean): void;
}
