// SPDX-License-Identifier: Apache-2.0
import { type ChildProcess, spawn } from 'node:child_process';
import { z } from 'zod';
import type { Clock } from '../base/clock.js';
import { codeOf, messageOf } from '../base/errors.js';
import { type Classified, classify, cleanText } from './classify.js';
import type { SecretPipe, SetKeyHandle } from './types.js';
import type { UnwrapAnswer, UnwrapRequest } from './unwrap-protocol.js';

/** How the helper is started; the daemon's own program with a hidden command. */
export interface HelperCommand {
  readonly execPath: string;
  readonly args: readonly string[];
  /** The daemon's environment; only what the identity's kind needs is passed on. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

export type HelperResult =
  | { readonly key: SetKeyHandle; readonly requestId: string | undefined }
  | { readonly verdict: Classified };

/** Helpers at once: each is a Node process of about 60 MB and a quarter of a second of one core. */
export const HELPERS_MAX = 4;

/** Unwraps that wait for a helper; one per set at a cold start. */
const WAITING_MAX = 1024;

const ANSWER_CHARACTERS_MAX = 16 * 1024;

const MANAGED_IDENTITY_VARIABLES = [
  'IDENTITY_ENDPOINT',
  'IDENTITY_HEADER',
  'IMDS_ENDPOINT',
  'MSI_ENDPOINT',
  'MSI_SECRET',
  'AZURE_POD_IDENTITY_AUTHORITY_HOST',
];

/** Variables by identity kind. NODE_OPTIONS and proxies are left out on purpose. */
const PASSED_VARIABLES: Readonly<Record<string, readonly string[]>> = {
  'managed-identity': MANAGED_IDENTITY_VARIABLES,
  'azure-cli': ['PATH', 'HOME', 'AZURE_CONFIG_DIR'],
};

const COMMON_VARIABLES = ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'SSL_CERT_DIR'];

const verdictSchema = z.object({
  kind: z.enum(['DENIED', 'NO-ANSWER']),
  class: z.enum([
    'denied-certain',
    'denied-propagating',
    'denied-identity',
    'denied-network',
    'no-answer',
    'ambiguous',
    'integrity',
  ]),
  reason: z.exactOptional(
    z.enum([
      'key-disabled',
      'key-deleted',
      'access-denied',
      'identity-denied',
      'key-expired',
      'integrity',
    ]),
  ),
  httpStatus: z.exactOptional(z.number()),
  code: z.exactOptional(z.string()),
  message: z.string().transform(cleanText),
  requestId: z.exactOptional(z.string()),
  retryAfterMs: z.exactOptional(z.number()),
});

const answerSchema = z.discriminatedUnion('ok', [
  z.object({ ok: z.literal(true), requestId: z.exactOptional(z.string()) }),
  z.object({ ok: z.literal(false), verdict: verdictSchema }),
]);

/** How a helper ended. */
interface Ending {
  readonly answer: UnwrapAnswer | undefined;
  readonly how: string;
  readonly timedOut: boolean;
}

/** Starts unwrap helpers, at most HELPERS_MAX at once, and brings their keys into native memory. */
export class UnwrapHelper {
  readonly #secretPipe: SecretPipe;
  readonly #command: HelperCommand;
  readonly #clock: Clock;
  readonly #children = new Set<ChildProcess>();
  readonly #waiting: Array<() => void> = [];
  #running = 0;
  #closed = false;

  constructor(options: { secretPipe: SecretPipe; command: HelperCommand; clock: Clock }) {
    this.#secretPipe = options.secretPipe;
    this.#command = options.command;
    this.#clock = options.clock;
  }

  /** Never rejects. The time limit begins when the helper starts, not while it waits. */
  async unwrap(request: UnwrapRequest): Promise<HelperResult> {
    if (this.#waiting.length >= WAITING_MAX) return failed('EBUSY', 'too many unwraps wait');
    if (this.#running >= HELPERS_MAX) {
      // Whoever finishes hands its place over.
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else {
      this.#running += 1;
    }
    try {
      if (this.#closed) return failed('ERR_VAULT_CLOSED', 'the daemon stops');
      return await this.#run(request);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }

  /** Ends every helper; their unwraps come back without an answer. */
  close(): void {
    this.#closed = true;
    for (const child of this.#children) child.kill('SIGKILL');
  }

  async #run(request: UnwrapRequest): Promise<HelperResult> {
    let readFd: number;
    let child: ChildProcess;
    try {
      const pipe = this.#secretPipe.createPipe();
      try {
        child = this.#spawn(request, pipe.writeFd);
        readFd = pipe.readFd;
      } catch (error) {
        this.#secretPipe.closeFd(pipe.readFd);
        throw error;
      } finally {
        // The helper has its copy now. While this one is open the reader would never see the end.
        this.#secretPipe.closeFd(pipe.writeFd);
      }
    } catch (error) {
      return failed(codeOf(error) ?? 'HelperStart', `cannot start: ${messageOf(error)}`);
    }
    this.#children.add(child);
    const [ending, received] = await Promise.all([
      this.#ending(child, request),
      settle(this.#secretPipe.receiveSetKey(readFd, request.timeoutMs)),
    ]);
    this.#children.delete(child);
    return combine(ending, received, request.timeoutMs);
  }

  #spawn(request: UnwrapRequest, writeFd: number): ChildProcess {
    const { execPath, args, env } = this.#command;
    const passed = [...COMMON_VARIABLES, ...(PASSED_VARIABLES[request.identity.kind] ?? [])];
    const environment = passed.flatMap((name) => {
      const value = env?.[name];
      return value === undefined ? [] : [[name, value] as const];
    });
    return spawn(execPath, args, {
      // Standard error goes nowhere: whatever a crash prints is not worth the risk of its content.
      stdio: ['pipe', 'pipe', 'ignore', writeFd],
      env: Object.fromEntries(environment),
    });
  }

  #ending(child: ChildProcess, request: UnwrapRequest): Promise<Ending> {
    return new Promise((resolve) => {
      let output = '';
      let timedOut = false;
      const timer = this.#clock.setTimer(request.timeoutMs, () => {
        timedOut = true;
        child.kill('SIGKILL');
      });
      const finish = (how: string): void => {
        timer.cancel();
        child.stdin?.destroy();
        child.stdout?.destroy();
        resolve({ answer: parseAnswer(output), how, timedOut });
      };
      child.stdout?.setEncoding('utf8').on('data', (part: string) => {
        if (output.length < ANSWER_CHARACTERS_MAX) output += part;
      });
      child.once('error', (error) => finish(messageOf(error)));
      child.once('close', (code, signal) => finish(signal ?? `exit code ${code ?? 'unknown'}`));
      // A helper that dies early closes its input; its ending says why.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(JSON.stringify(request));
    });
  }
}

type Settled<T> = { readonly value: T } | { readonly error: unknown };

async function settle<T>(promise: Promise<T>): Promise<Settled<T>> {
  try {
    return { value: await promise };
  } catch (error) {
    return { error };
  }
}

function parseAnswer(output: string): UnwrapAnswer | undefined {
  try {
    return answerSchema.safeParse(JSON.parse(output) as unknown).data;
  } catch {
    return undefined;
  }
}

/** Weighs what the helper said against what came through the pipe; a key counts only with both. */
function combine(ending: Ending, received: Settled<SetKeyHandle>, limitMs: number): HelperResult {
  const { answer, how, timedOut } = ending;
  if (answer?.ok === true && 'value' in received) {
    return { key: received.value, requestId: answer.requestId };
  }
  if ('value' in received) received.value.wipe();
  if (answer?.ok === false) return { verdict: answer.verdict };
  if (answer?.ok === true && 'error' in received) {
    const cause = messageOf(received.error);
    const code = codeOf(received.error) ?? 'SecretPipe';
    return failed(code, `unwrapped the key, but native memory did not take it: ${cause}`);
  }
  if (timedOut) return failed('TIMEOUT', `was ended after ${limitMs} ms without an answer`);
  return failed('HelperEnded', `ended without an answer (${how})`);
}

function failed(code: string, what: string): HelperResult {
  return { verdict: classify({ errno: code, message: `the unwrap helper ${what}` }) };
}
