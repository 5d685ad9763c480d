// Live rows of features, by docs/formats.md:  npm ci --ignore-scripts  and then
//   node subscriber.mjs ipc:///run/daedalus/gateway.sock feature/binance/BTC-USDT/ [COUNT]
//   node subscriber.mjs tcp://HOST:5555 feature/binance/BTC-USDT/ COUNT SERVER_KEY PUBLIC SECRET
import { decode, encode } from "@msgpack/msgpack";
import { Dealer, Subscriber } from "zeromq";

const [address, topic, count, server, publicKey, secretKey] = process.argv.slice(2);
const keys = server ? { curveServerKey: server, curvePublicKey: publicKey, curveSecretKey: secretKey } : {};
const asking = new Dealer({ linger: 0, receiveTimeout: 10000, ...keys });
asking.connect(address.startsWith("tcp") ? address.replace(/\d+$/, (port) => +port + 1) : `${address}.req`);
const subscriber = new Subscriber({ linger: 0, ...keys });
subscriber.subscribe(topic);
subscriber.connect(address);

const [schemas, last] = [new Map(), new Map()]; // schema id -> schema; topic -> [session, seq]
let rows = 0;
for await (const [name, head, payload] of subscriber) {
  const [version, , number, session, , tsRecv, , id] = decode(head, { useBigInt64: true });
  const [stream, seq] = [String(name), Number(number)];
  if (version !== 1) throw new Error(`cannot read ${stream}: version ${version} of the wire, not 1`);
  const [before, seen] = last.get(stream) ?? [session, seq - 1];
  if (before === session && seq <= seen) continue; // a last value, sent again
  last.set(stream, [session, seq]);
  if (!schemas.has(id)) {
    await asking.send(encode([1, "schema", id]));
    const [, ok, value] = decode((await asking.receive())[0]);
    if (!ok) throw new Error(value);
    schemas.set(id, value);
  }
  const cell = (column, at) => [column, payload.readDoubleLE(8 * at)]; // JSON writes NaN, no value, as null
  const values = Object.fromEntries(schemas.get(id).names.map(cell));
  const lost = seq - 1 - (before === session ? seen : 0);
  console.log(JSON.stringify({ topic: stream, seq, lost, ts_recv_ns: String(tsRecv), values }));
  if (++rows === Number(count)) break;
}
subscriber.close();
asking.close();
