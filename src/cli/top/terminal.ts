// SPDX-License-Identifier: Apache-2.0
import type { Screen } from '../io.js';

/*
 * The terminal as a screen of its own, and back. Whatever ends the program (a key, a signal, a
 * failure), the terminal is what it was: only SIGKILL can prevent that.
 */

/** Alternate screen, cursor hidden, no wrapping at the right edge. */
const ENTER = '\u001b[?1049h\u001b[?25l\u001b[?7l\u001b[2J';
const LEAVE = '\u001b[?7h\u001b[?25h\u001b[0m\u001b[?1049l';
/** Clears what is left of a line, or of the screen. */
const CLEAR_LINE = '\u001b[K';
const CLEAR_BELOW = '\u001b[J';
const HOME = '\u001b[H';

/** Those that end a program and can be caught. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const;

export interface TerminalUser {
  /** Text of one read; keys are not yet told apart. */
  onKeys(text: string): void;
  /** The size has changed, or the terminal is ours again: draw anew. */
  onRedraw(): void;
  /** Ctrl-C from outside; other signals end the program by themselves. */
  onInterrupt(): void;
}

/** Whoever opens it closes it in a `finally`. */
export class TerminalSession {
  readonly #screen: Screen;
  readonly #user: TerminalUser;
  readonly #undo: Array<() => void> = [];
  #entered = false;

  constructor(screen: Screen, user: TerminalUser) {
    this.#screen = screen;
    this.#user = user;
  }

  open(): void {
    const leave = (): void => this.#leave();
    process.on('exit', leave); // also after a failure that nobody caught
    this.#undo.push(() => process.off('exit', leave));
    for (const signal of SIGNALS) {
      const onSignal = (): void => this.#onSignal(signal);
      process.on(signal, onSignal);
      this.#undo.push(() => process.off(signal, onSignal));
    }
    this.#undo.push(this.#screen.onResize(() => this.#user.onRedraw()));
    this.#undo.push(this.#screen.onText((text) => this.#user.onKeys(text)));
    this.#enter();
  }

  draw(lines: readonly string[]): void {
    if (!this.#entered) return;
    const text = lines.map((line) => `${line}${CLEAR_LINE}`).join('\r\n');
    this.#screen.write(`${HOME}${text}${CLEAR_BELOW}`);
  }

  /** Ctrl-Z: gives the terminal back, stops, and takes it again when the shell says so. */
  suspend(): void {
    this.#leave();
    process.once('SIGCONT', () => {
      this.#enter();
      this.#user.onRedraw();
    });
    process.kill(process.pid, 'SIGTSTP');
  }

  close(): void {
    this.#leave();
    for (const undo of this.#undo.splice(0)) undo();
  }

  #onSignal(signal: (typeof SIGNALS)[number]): void {
    if (signal === 'SIGINT') {
      this.#user.onInterrupt();
      return;
    }
    this.close();
    // Now that nobody listens the signal does what it always does, and our parent sees which.
    process.kill(process.pid, signal);
  }

  #enter(): void {
    if (this.#entered) return;
    this.#entered = true;
    this.#screen.setRaw(true);
    this.#screen.write(ENTER);
  }

  #leave(): void {
    if (!this.#entered) return;
    this.#entered = false;
    this.#screen.write(LEAVE);
    this.#screen.setRaw(false);
  }
}
