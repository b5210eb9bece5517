// SPDX-License-Identifier: Apache-2.0
import { KeyholdError, messageOf } from '../base/errors.js';
import type { DiskCause, DiskRef, DiskStateView, EmitDiskEvent } from './events.js';
import type { PlaneDiskEvent } from './ports.js';
import type { OfflineReason } from './record.js';
import { sameState } from './state-view.js';

/** What one disk tells the world of itself. */
export class DiskNews {
  readonly #emit: EmitDiskEvent;
  readonly #ref: () => DiskRef;

  constructor(emit: EmitDiskEvent, ref: () => DiskRef) {
    this.#emit = emit;
    this.#ref = ref;
  }

  get #disk(): DiskRef {
    return this.#ref();
  }

  /** Told only if it is another state. */
  moved(previous: DiskStateView, current: DiskStateView, cause: DiskCause): void {
    if (sameState(previous, current)) return;
    this.#emit('state', { disk: this.#disk, cause, previous, current });
  }

  /** Native code wiped the key of an online disk: its lease had ended. */
  wipedByNative(keyWipedBootMs: number): void {
    const native = { keyWipedBootMs, parkedRequests: undefined, by: 'native' } as const;
    this.#emit('suspended', { disk: this.#disk, ...native });
  }

  openFailed(reason: OfflineReason, error: unknown): void {
    const failure = { code: codeFor(error), message: messageOf(error) };
    this.#emit('open-failed', { disk: this.#disk, reason, ...failure });
  }

  /** Something went wrong that no command waits for. */
  turnFailed(error: unknown): void {
    const failure = { code: codeFor(error), message: messageOf(error) };
    this.#emit('offline-failed', { disk: this.#disk, ...failure });
  }

  recordFailed(error: unknown): void {
    this.#emit('record-error', { disk: this.#disk, message: messageOf(error) });
  }

  ofStore(event: PlaneDiskEvent & { kind: 'store-error' | 'store-buffered' }): void {
    if (event.kind === 'store-buffered') {
      this.#emit('store-buffered', { disk: this.#disk, message: event.message });
      return;
    }
    const { operation, errno } = event;
    this.#emit('store-error', { disk: this.#disk, operation, errno });
  }

  clients(clients: number): void {
    this.#emit('clients', { disk: this.#disk, clients });
  }

  allowChanged(added: string[], removed: string[]): void {
    this.#emit('allow-changed', { disk: this.#disk, added, removed });
  }
}

function codeFor(error: unknown): string {
  return error instanceof KeyholdError ? error.code : 'ERR_INTERNAL';
}
