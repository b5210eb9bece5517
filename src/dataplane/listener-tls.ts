// SPDX-License-Identifier: Apache-2.0
import type { NativePlane, NativeTlsOptions } from './addon.js';
import { callNative, codes } from './errors.js';
import type { ListenerTls } from './negotiator.js';

export type TlsMode = ListenerTls['mode'];

const TLS_CODES = {
  InvalidArgument: codes.ERR_TLS_FILES,
  System: codes.ERR_TLS_FILES,
};

/** Which listeners speak TLS, and the one context that they share. */
export class TlsListeners {
  readonly #native: NativePlane;
  readonly #modes = new Map<number, TlsMode>();
  #contextId: number | undefined;

  constructor(native: NativePlane) {
    this.#native = native;
  }

  set(listenerId: number, mode: TlsMode): void {
    if (mode !== 'off' && this.#contextId === undefined) {
      throw new Error(`listener ${listenerId} with TLS before a certificate or keys were loaded`);
    }
    this.#modes.set(listenerId, mode);
  }

  of(listenerId: number): ListenerTls {
    const mode = this.#modes.get(listenerId) ?? 'off';
    return mode === 'off' || this.#contextId === undefined
      ? { mode: 'off' }
      : { mode, contextId: this.#contextId };
  }

  /**
   * Reads the files, at first or anew. Throws ERR_TLS_FILES, and nothing has changed then; sessions
   * that are there go on with what they began with.
   */
  load(options: NativeTlsOptions): void {
    const contextId = this.#contextId;
    callNative(
      'loading TLS files',
      () => {
        if (contextId === undefined) this.#contextId = this.#native.createTlsContext(options);
        else this.#native.replaceTlsContext(contextId, options);
      },
      TLS_CODES,
    );
  }
}
