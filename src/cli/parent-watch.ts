// SPDX-License-Identifier: Apache-2.0

/** Longer than an orderly stop takes; then a process without a parent is killed. */
const STOP_MS_MAX = 10_000;

/**
 * Sends this process SIGTERM when its standard input ends, so that its own handler stops it in an
 * orderly way. The supervisor holds the other end of the pipe, and the kernel closes it even when
 * the supervisor is killed.
 */
export function stopOnStdinEnd(): void {
  const { stdin } = process;
  let stopping = false;
  const stop = (): void => {
    // A second SIGTERM would end the daemon at once instead of in order.
    if (stopping) return;
    stopping = true;
    process.kill(process.pid, 'SIGTERM');
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), STOP_MS_MAX).unref();
  };
  stdin.once('end', stop);
  stdin.once('error', stop);
  stdin.resume();
  // Watching must not keep the process alive. A file or /dev/null has no unref, and ends at once.
  if ('unref' in stdin && typeof stdin.unref === 'function') stdin.unref();
}
