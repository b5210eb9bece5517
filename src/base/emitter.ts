// SPDX-License-Identifier: Apache-2.0

/**
 * Typed events inside the process: `Events` maps each kind to what it carries. Listeners are called
 * at once, in the order of their subscription; one that throws is reported and keeps nobody else
 * from hearing.
 */
export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();
  readonly #onListenerError: (error: unknown, kind: keyof Events) => void;

  constructor(onListenerError: (error: unknown, kind: keyof Events) => void) {
    this.#onListenerError = onListenerError;
  }

  /** Returns the function that ends the subscription. */
  on<K extends keyof Events>(kind: K, listener: (event: Events[K]) => void): () => void {
    const listeners = this.#listeners.get(kind) ?? new Set();
    this.#listeners.set(kind, listeners);
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  emit<K extends keyof Events>(kind: K, event: Events[K]): void {
    const listeners = (this.#listeners.get(kind) ?? []) as Iterable<(event: Events[K]) => void>;
    for (const listener of [...listeners]) {
      try {
        listener(event);
      } catch (error) {
        this.#onListenerError(error, kind);
      }
    }
  }
}
