import type { Pointer } from './api.ts';

/**
 * One C object that we own: released once, by `dispose`. What still points at it from the C side (a run on another thread,
 * a binding to a session) pins it, and disposing of a pinned object is refused, since C would read freed memory.
 */
export class Handle {
  readonly #what: string;
  readonly #release: (pointer: Pointer) => void;
  readonly #users: string[] = [];
  #pointer: Pointer | null;

  /** `what` names the object in error messages, such as "Value float32[2, 3]". */
  constructor(what: string, pointer: Pointer, release: (pointer: Pointer) => void) {
    this.#what = what;
    this.#pointer = pointer;
    this.#release = release;
  }

  get pointer(): Pointer {
    if (this.#pointer === null) throw new Error(`${this.#what} was used after it was disposed of`);
    return this.#pointer;
  }

  get disposed(): boolean {
    return this.#pointer === null;
  }

  /** `user` says in error messages who holds on: "a run in flight". */
  pin(user: string): void {
    this.#users.push(user);
  }

  unpin(user: string): void {
    const index = this.#users.indexOf(user);
    if (index >= 0) this.#users.splice(index, 1);
  }

  /** Throws while the object is pinned; `action` is what the caller wants to do to it. */
  assertIdle(action: string): void {
    if (this.#users.length > 0) {
      throw new Error(`cannot ${action} ${this.#what}: ${[...new Set(this.#users)].join(' and ')} still uses it`);
    }
  }

  /** Does nothing the second time. */
  dispose(): void {
    if (this.#pointer === null) return;
    this.assertIdle('dispose of');
    const pointer = this.#pointer;
    this.#pointer = null;
    this.#release(pointer);
  }
}

/** Keeps `handles` from being disposed of until `work` settles. */
export async function pinned<T>(user: string, handles: readonly Handle[], work: () => Promise<T>): Promise<T> {
  for (const handle of handles) handle.pin(user);
  try {
    return await work();
  } finally {
    for (const handle of handles) handle.unpin(user);
  }
}
