// SPDX-License-Identifier: Apache-2.0
import type { Caller } from '../admin/api.js';
import type { DoctorReport, DoctorRequest, DoctorTarget } from '../admin/api-doctor.js';
import { assertRole } from '../admin/callers.js';
import { type Check, failed } from '../base/check.js';
import type { Clock } from '../base/clock.js';
import { KeyholdError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { FilledConfig } from '../config/config.js';
import { makeCanary } from '../sets/wrap.js';
import { counts, type SetKeyRecord, type SetRecord } from '../sets/record.js';
import type { SetService } from '../sets/set-service.js';
import { examineKey } from '../vault/doctor.js';
import { type KeyUrl, parseKeyUrl } from '../vault/key-url.js';
import { vaultNameOf } from '../vault/vault-name.js';
import { codes } from './errors.js';
import { checkHost, type HostFacts } from './host-checks.js';

/** Each run costs the vault a handful of calls per key. */
const RUNS_MAX = 4;
/** Sets that one run without a name looks at; the rest has to be asked for by name. */
const SETS_MAX = 100;

export interface DoctorOptions {
  /** The one in force. */
  readonly config: () => Pick<FilledConfig, 'identities' | 'vault'>;
  readonly credentialsDirectory: string | undefined;
  readonly clock: Clock;
  readonly random: Random;
  readonly sets: Pick<SetService, 'get' | 'list' | 'broken'>;
  readonly host: () => HostFacts;
}

interface Subject {
  readonly set: string | null;
  readonly identity: string;
  readonly url: KeyUrl;
  readonly allowPurgeable: boolean;
  readonly expiryDenies: boolean;
  readonly keys: readonly SetKeyRecord[];
}

/**
 * Says what stands between this host and a customer key. It moves no lease, touches no set key and
 * changes nothing: canaries and fresh random bytes are all that it has unwrapped.
 */
export class Doctor {
  readonly #options: DoctorOptions;
  #runs = 0;

  constructor(options: DoctorOptions) {
    this.#options = options;
  }

  /** One set, one key that may not belong to any, or else the host and every set. */
  async examine(request: DoctorRequest, caller: Caller): Promise<DoctorReport> {
    // Without the check of challenges, whoever names the vault says who is sent a token.
    if (request.key !== undefined && !this.#options.config().vault.verifyChallengeResource) {
      assertRole(caller, 'admin', 'examine a key while verify_challenge_resource is off');
    }
    if (this.#runs >= RUNS_MAX) {
      throw new KeyholdError(
        codes.ERR_DOCTOR_BUSY,
        `cannot examine: ${this.#runs} examinations run, at most ${RUNS_MAX} may`,
      );
    }
    const subjects = this.#subjects(request);
    this.#runs += 1;
    try {
      const targets: DoctorTarget[] = [];
      for (const subject of subjects) targets.push(await this.#examine(subject));
      const named = request.set !== undefined || request.key !== undefined;
      const host = [...checkHost(this.#options.host()), ...(named ? [] : this.#checkRecords())];
      return { targets, host };
    } finally {
      this.#runs -= 1;
    }
  }

  #subjects(request: DoctorRequest): Subject[] {
    const { sets } = this.#options;
    if (request.set !== undefined) return subjectsOf(sets.get(request.set).record);
    if (request.key === undefined) {
      return sets
        .list()
        .slice(0, SETS_MAX)
        .flatMap(({ record }) => subjectsOf(record));
    }
    const url = parseKeyUrl(request.key);
    const identity = request.identity ?? this.#onlyIdentity();
    return [{ set: null, identity, url, allowPurgeable: false, expiryDenies: false, keys: [] }];
  }

  async #examine(subject: Subject): Promise<DoctorTarget> {
    const { set, identity, url, allowPurgeable, expiryDenies } = subject;
    const { credentialsDirectory, clock, random } = this.#options;
    const config = this.#options.config();
    const checks = await examineKey(
      { identity, url, allowPurgeable, expiryDenies, canaries: subject.keys.map(canaryOf) },
      {
        identities: config.identities,
        credentialsDirectory,
        transport: config.vault,
        clock,
        makeCanary: (key) => makeCanary(key, random),
      },
    );
    const { name, managedHsm } = vaultNameOf(url.vaultUrl);
    const identityConfig = Object.hasOwn(config.identities, identity)
      ? config.identities[identity]
      : undefined;
    return {
      set,
      identity,
      identityKind: identityConfig?.kind ?? null,
      key: url.id,
      vaultUrl: url.vaultUrl,
      vaultName: name,
      managedHsm,
      keyName: url.name,
      keyVersion: url.version ?? null,
      checks,
    };
  }

  #checkRecords(): Check[] {
    return this.#options.sets.broken().map(({ name, path, message }) => {
      const problem = { code: 'ERR_SET_RECORD', kind: 'integrity', message } as const;
      return failed('record', problem, { set: name, path });
    });
  }

  #onlyIdentity(): string {
    const names = Object.keys(this.#options.config().identities);
    const [only] = names;
    if (only !== undefined && names.length === 1) return only;
    throw new KeyholdError(
      codes.ERR_IDENTITY_AMBIGUOUS,
      'examining a key without an identity: expected exactly one in the config, found ' +
        (names.join(', ') || 'none'),
      { fields: { identities: names.length } },
    );
  }
}

/**
 * One subject for each key that counts, with the canaries of all its versions in the record. One
 * that the set was taken off may be gone, and that is no fault.
 */
function subjectsOf(record: SetRecord): Subject[] {
  const { name: set, identity, allowPurgeable } = record;
  const expiryDenies = record.onExpiry === 'offline';
  const byUrl = new Map<string, SetKeyRecord[]>();
  for (const key of record.keys.filter(counts))
    byUrl.set(key.url, [...(byUrl.get(key.url) ?? []), key]);
  return [...byUrl].map(([text, keys]) => {
    return { set, identity, url: parseKeyUrl(text), allowPurgeable, expiryDenies, keys };
  });
}

function canaryOf({ kid, canary }: SetKeyRecord): Parameters<typeof examineKey>[0]['canaries'][0] {
  const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));
  return { kid, canary: { plaintext: bytes(canary.plaintext), wrapped: bytes(canary.wrapped) } };
}
