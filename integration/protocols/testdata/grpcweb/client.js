// Calls a Hull server with Google's gRPC-Web client, as text and as bytes. Prints one JSON object a line: what was tried, and what came of it.
'use strict';
global.XMLHttpRequest = require('xhr2');
const { GrpcWebClientBase, MethodDescriptor, MethodType } = require('grpc-web');

const host = 'http://' + process.argv[2];

// The messages have one field each: a text or a number, which is field 1.
const varint = (n) => { const b = []; for (; n > 127; n = Math.floor(n / 128)) b.push(n % 128 | 128); return [...b, n]; };
const text = (s) => { const b = Buffer.from(s); return Uint8Array.from([10, ...varint(b.length), ...b]); };
const number = (n) => Uint8Array.from([8, ...varint(n)]);
function decode(b) {
  let n = 0, at = 1, shift = 1;
  for (; b[at] > 127; at++, shift *= 128) n += (b[at] & 127) * shift;
  n += b[at] * shift;
  return b[0] === 8 ? n : Buffer.from(b.slice(at + 1, at + 1 + n)).toString();
}
const method = (name, type, encode) => new MethodDescriptor('/greeter.Greeter/' + name, type, Object, Object, encode, decode);
const Hello = method('Hello', MethodType.UNARY, text);
const Count = method('Count', MethodType.SERVER_STREAMING, number);
const Nothing = method('Nothing', MethodType.UNARY, text);

function hello(client, name, md = {}, m = Hello) {
  return new Promise((resolve) => {
    const seen = { md: {} };
    const call = client.rpcCall(host + m.getName(), name, md, m, (err, reply) => {
      seen.err = err;
      seen.reply = reply;
      setTimeout(() => resolve(seen), 100); // the trailer may come behind the answer
    });
    call.on('metadata', (h) => Object.assign(seen.md, h));
    call.on('status', (s) => Object.assign(seen.md, s.metadata));
  });
}

const tries = {
  async unary(c) {
    const r = await hello(c, 'Ada', { 'x-ask': 'answer' });
    return `${r.reply} ${r.md['x-head']} ${r.md['x-trail-bin']}`;
  },
  async large(c) { return (await hello(c, 'x'.repeat(1 << 20))).reply.length; },
  async failure(c) {
    const r = await hello(c, 'fail');
    return `${r.err.code} ${decodeURIComponent(r.err.message)}`;
  },
  async deadline(c) { return (await hello(c, 'wait', { deadline: String(Date.now() + 300) })).err.code; },
  async unknown(c) { return (await hello(c, 'Ada', {}, Nothing)).err.code; },
  async toolarge(c) { return (await hello(c, 'x'.repeat(5 << 20))).err.code; },
};

const streams = {
  stream(c) {
    return new Promise((resolve, reject) => {
      const got = [];
      c.serverStreaming(host + Count.getName(), 3, {}, Count).on('data', (n) => got.push(n)).on('error', reject).on('end', () => resolve(got.join(' ')));
    });
  },
};

(async () => {
  for (const format of ['text', 'binary']) {
    const client = new GrpcWebClientBase({ format });
    // Google's client reads streams as text only.
    for (const [name, f] of Object.entries(format === 'text' ? { ...tries, ...streams } : tries)) {
      let got;
      try { got = String(await f(client)); } catch (e) { got = 'threw ' + e; }
      console.log(JSON.stringify({ name: `${format} ${name}`, got }));
    }
  }
  process.exit(0);
})();
