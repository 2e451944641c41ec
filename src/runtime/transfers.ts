/** Bytes that crossed between the host and devices, since the process began. */
export interface Transfers {
  /** To the device. */
  toDevice: number;
  /** To the host. */
  toHost: number;
  /** The same by name: that of an input or output of a graph, or what a copy was for. */
  byName: ReadonlyMap<string, number>;
}

let toDevice = 0;
let toHost = 0;
const byName = new Map<string, number>();

/** Every copy between the host and a device is counted here. For src/runtime only. */
export function countTransfer(direction: 'toDevice' | 'toHost', name: string, bytes: number): void {
  if (direction === 'toDevice') toDevice += bytes;
  else toHost += bytes;
  byName.set(name, (byName.get(name) ?? 0) + bytes);
}

/** What has crossed so far; the difference of two is what crossed between them. */
export const transfers = (): Transfers => ({ toDevice, toHost, byName: new Map(byName) });
