// Live rows of features, by docs/formats.md:  npm ci --ignore-scripts  and then
//   node subscriber.mjs ipc:///run/daedalus/gateway.sock feature/binance/BTC-USDT/ [COUNT]
//   node subscriber.mjs tcp://HOST:5555 feature/binance/BTC-USDT/ COUNT SERVER_KEY PUBLIC SECRET
import { decode, encode } from "@msgpack/msgpack";
import { Dealer, Subscriber } from "zeromq";

const [address, topic, count = "0", serverKey, publicKey, secretKey] = process.argv.slice(2);
const curve = serverKey ? { curveServerKey: serverKey, curvePublicKey: publicKey, curveSecretKey: secretKey } : {};
const requests = address.startsWith("tcp://")
  ? address.replace(/\d+$/, (port) => String(Number(port) + 1))
  : `${address}.req`;

async function schemaOf(idOrTopic) {
  const asking = new Dealer({ linger: 0, receiveTimeout: 10000, ...curve });
  asking.connect(requests);
  await asking.send(encode([1, "schema", idOrTopic]));
  const [, ok, value] = decode((await asking.receive())[0]);
  asking.close();
  if (!ok) throw new Error(value);
  return value;
}

const subscriber = new Subscriber({ linger: 0, ...curve });
subscriber.subscribe(topic);
subscriber.connect(address);
const schemas = new Map();
const last = new Map(); // topic -> [session, seq]
let rows = 0;
for await (const [name, head, payload] of subscriber) {
  const [version, kind, number64, session, , tsRecv, , schemaId] = decode(head, { useBigInt64: true });
  const seq = Number(number64);
  if (version !== 1 || !["feature", "bar"].includes(kind)) continue;
  const [before, number] = last.get(String(name)) ?? [session, seq - 1];
  if (before === session && seq <= number) continue; // a last value, sent again
  const lost = seq - 1 - (before === session ? number : 0);
  last.set(String(name), [session, seq]);
  if (!schemas.has(schemaId)) schemas.set(schemaId, await schemaOf(schemaId));
  const values = schemas.get(schemaId).names.map((column, at) => {
    const value = payload.readDoubleLE(8 * at);
    return [column, Number.isNaN(value) ? null : value];
  });
  const row = { topic: String(name), seq, lost, ts_recv_ns: String(tsRecv) };
  console.log(JSON.stringify({ ...row, values: Object.fromEntries(values) }));
  if (++rows === Number(count)) break;
}
subscriber.close();
