// SPDX-License-Identifier: Apache-2.0

/** One piece of work after the other, in order; the first begins in the turn in which it came. */
export class SerialQueue {
  readonly #tasks: Array<() => Promise<void>> = [];
  #running = false;

  run<T>(task: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      // A task that throws before its first await rejects too.
      this.#tasks.push(async () => {
        try {
          resolve(await task());
        } catch (error) {
          reject(error);
        }
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
