// SPDX-License-Identifier: Apache-2.0

/** One piece of work after the other, in order; the first begins in the turn in which it came. */
export class SerialQueue {
  readonly #tasks: Array<() => Promise<void>> = [];
  #running = false;

  run<T>(task: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#tasks.push(async () => {
        // A task that throws before its first await rejects too.
        const result = (async () => task())();
        await result.then(resolve, reject);
      });
      void this.#drain();
    });
  }

  async #drain(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    for (let task = this.#tasks.shift(); task !== undefined; task = this.#tasks.shift())
      await task();
    this.#running = false;
  }
}
