// SPDX-License-Identifier: Apache-2.0
import { codeOf, defineErrors, KeyholdError, messageOf } from '../base/errors.js';

export const codes = defineErrors({
  ERR_ADDON_LOAD: {
    kind: 'internal',
    summary: 'The native addon could not be loaded.',
    hint: 'run `npm run build`; the addon must be built for this machine and this Node version',
  },
  ERR_NATIVE_INVALID: {
    kind: 'invalid',
    summary: 'Native code refused a value.',
    hint: 'the message names the value and its range',
  },
  ERR_NATIVE_SYSTEM: {
    kind: 'unavailable',
    summary: 'A system call of the data plane failed.',
    hint: 'the message names the call and the errno',
  },
  ERR_NATIVE_MEMORY: {
    kind: 'unavailable',
    summary: 'Locked memory for key bytes could not be had.',
    hint: 'raise LimitMEMLOCK= (ulimit -l), or let the container permit mlock and memfd_secret',
  },
  ERR_NATIVE_CRYPTO: {
    kind: 'internal',
    summary: 'OpenSSL refused an operation that should not fail.',
    hint: 'report it with the message',
  },
  ERR_NATIVE_TIMEOUT: {
    kind: 'unavailable',
    summary: 'A native operation passed its deadline.',
    hint: 'see the daemon log for what was slow',
  },
  ERR_NATIVE_CLOSED: {
    kind: 'conflict',
    summary: 'The data plane or the disk was closed.',
    hint: 'the daemon is stopping',
  },
  ERR_SET_KEY_WIPED: {
    kind: 'key-inaccessible',
    summary: 'The set key is no longer in memory.',
    hint: 'keyhold set check SET shows whether Key Vault grants access',
  },
  ERR_DISK_STATE: {
    kind: 'conflict',
    summary: 'The disk is not in a state that allows the call.',
    hint: 'keyhold disk show DISK tells the state',
  },
  ERR_DEK_UNSEAL: {
    kind: 'integrity',
    summary: 'The sealed DEK in the header is corrupt or was tampered with.',
    hint: 'restore the header from a backup (cryptsetup luksHeaderRestore)',
  },
  ERR_DEK_DIGEST: {
    kind: 'integrity',
    summary: 'The DEK is not the one that the header describes.',
    hint: 'the header and its token do not belong together; restore the header from a backup',
  },
  ERR_SET_KEY_UNSEAL: {
    kind: 'integrity',
    summary: 'A set key that the platform key sealed does not open.',
    hint: 'check that [platform_key] names the key that this host has always had; else restore the record from a backup',
  },
  ERR_PLATFORM_KEY_FILE: {
    kind: 'invalid',
    summary: 'The platform key cannot be read, or its file cannot be made.',
    hint: 'the message names the file, what was found and what is expected; keyhold platform-key init FILE makes a new one',
  },
  ERR_KEY_EXPORT_FILE: {
    kind: 'invalid',
    summary: 'The file for the exported key of a disk cannot be made.',
    hint: 'name a file that does not exist yet, in a directory that the daemon may write to',
  },
  ERR_NBD_LISTEN: {
    kind: 'conflict',
    summary: 'An address to listen on for NBD clients could not be had.',
    hint: 'check that no other server uses it, and that the directory of a socket exists',
  },
  ERR_TLS_FILES: {
    kind: 'invalid',
    summary: 'A TLS certificate, key, client CA or PSK file cannot be used.',
    hint: 'the message names the file and what does not fit; what was in use before stays in use',
  },
  ERR_STORE_OPEN: {
    kind: 'unavailable',
    summary: 'A store could not be opened.',
    hint: 'check the path, its permissions, and that no other process serves it',
  },
  ERR_STORE_SIZE: {
    kind: 'integrity',
    summary: 'A store is smaller than its disk.',
    hint: 'the store was cut short; restore it to its full size before attaching',
  },
  ERR_STORE_DIRECT: {
    kind: 'invalid',
    summary: 'A store cannot be read and written past the page cache, as --direct demands.',
    hint: 'use 4096-byte sectors or another file system, or create the disk without --direct',
  },
  ERR_STORE_DISCARD: {
    kind: 'unavailable',
    summary: 'A range of a store could not be discarded.',
    hint: 'the message names the store and the errno; the range was overwritten before',
  },
  ERR_SHARD_DIED: {
    kind: 'internal',
    summary: 'A shard of the data plane ended unexpectedly.',
    hint: 'its clients were disconnected; the daemon starts it again',
  },
});

const CODE_OF_NATIVE: Readonly<Record<string, string>> = {
  InvalidArgument: codes.ERR_NATIVE_INVALID,
  System: codes.ERR_NATIVE_SYSTEM,
  NoMemory: codes.ERR_NATIVE_MEMORY,
  Crypto: codes.ERR_NATIVE_CRYPTO,
  Unseal: codes.ERR_DEK_UNSEAL,
  Digest: codes.ERR_DEK_DIGEST,
  KeyWiped: codes.ERR_SET_KEY_WIPED,
  Timeout: codes.ERR_NATIVE_TIMEOUT,
  State: codes.ERR_DISK_STATE,
  Closed: codes.ERR_NATIVE_CLOSED,
  StoreSize: codes.ERR_STORE_SIZE,
  StoreDirect: codes.ERR_STORE_DIRECT,
};

/**
 * What native code threw, as the facade's own error; `overrides` replace codes where a call knows
 * more.
 */
export function fromNative(
  operation: string,
  thrown: unknown,
  overrides: Readonly<Record<string, string>> = {},
): KeyholdError {
  if (thrown instanceof KeyholdError) return thrown;
  const native = stringField(thrown, 'nativeCode');
  const errno = stringField(thrown, 'errnoName');
  const code =
    (native === undefined ? undefined : (overrides[native] ?? CODE_OF_NATIVE[native])) ??
    codeOf(thrown) ??
    codes.ERR_NATIVE_INVALID;
  return new KeyholdError(code, `${operation}: ${messageOf(thrown)}`, {
    fields: errno === undefined ? {} : { errno },
    cause: thrown,
  });
}

/** Runs a native call; what it throws becomes a KeyholdError. */
export function callNative<T>(
  operation: string,
  call: () => T,
  overrides?: Readonly<Record<string, string>>,
): T {
  try {
    return call();
  } catch (thrown) {
    throw fromNative(operation, thrown, overrides);
  }
}

/** The same for a native call that answers with a promise. */
export async function awaitNative<T>(
  operation: string,
  call: () => Promise<T>,
  overrides?: Readonly<Record<string, string>>,
): Promise<T> {
  try {
    return await call();
  } catch (thrown) {
    throw fromNative(operation, thrown, overrides);
  }
}

function stringField(thrown: unknown, name: string): string | undefined {
  if (typeof thrown !== 'object' || thrown === null) return undefined;
  const value: unknown = (thrown as Record<string, unknown>)[name];
  return typeof value === 'string' ? value : undefined;
}
