import { ScaleHost, SET, forEach, timeGet, memoryOf } from './scale-host.js';
import { readFileSync } from 'node:fs';
const n = Number(process.argv[2]);
const cpu = (pid: number) => { const f = readFileSync(`/proc/${pid}/stat','utf8`.replace("','utf8",''), 'utf8'); const p = f.slice(f.lastIndexOf(')')+2).split(' '); return (Number(p[11])+Number(p[12]))*10; };
const host = await ScaleHost.start();
try {
  const name = (i: number) => `disk-${i}`;
  let pid = (await host.admin.status()).pid;
  const step = async (what: string, work: () => Promise<unknown>) => { const c = cpu(pid), t = performance.now(); await work(); console.log(what, 'wall', (performance.now()-t).toFixed(0), 'cpu', cpu(pid)-c); };
  await step('create', () => forEach(n, 64, (i) => host.admin.createDisk({ name: name(i), set: SET, sizeBytes: 1<<20 })));
  await host.restart(); await host.granted(); pid = (await host.admin.status()).pid;
  await step('attach', () => forEach(n, 64, (i) => host.admin.attachDisk(name(i))));
  const url = (await host.admin.status()).metrics!;
  if (process.argv[3]) { await step('scrape', () => timeGet({ url })); await step('list', () => timeGet({ socketPath: host.stack.adminSocket, path: '/v1/disks' })); }
  await host.stack.stopDev();
  await host.stack.startDev();
  pid = (await host.admin.status()).pid;
  await host.disksAre('online', n);
  console.log('restart cpu', cpu(pid));
  await host.vault.disableKey('bench-key');
  await step('revoke', async () => { await host.admin.checkSet(SET); await host.disksAre('offline', n); });
  await host.vault.enableKey('bench-key');
  await step('heal', async () => { await host.admin.checkSet(SET); await host.disksAre('online', n); });
  console.log(await memoryOf(pid));
  const log = await host.vault.log(); console.log(log.slice(-14).map(e => [e.operation, e.status, e.clientId ?? '-', e.durationMs].join(' ')).join('\n'));
} finally { await host.stop(); }
