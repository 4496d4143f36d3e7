// Calls a Hull server in every way that grpc-js can. Prints one JSON object a line: what was tried, and what came of it.
'use strict';
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const [address, proto] = process.argv.slice(2);
const definition = loader.loadSync(proto, { longs: Number, defaults: true });
const { Greeter } = grpc.loadPackageDefinition(definition).greeter;
const client = new Greeter(address, grpc.credentials.createInsecure(), { 'grpc.max_receive_message_length': 8 << 20 });
const zipped = new Greeter(address, grpc.credentials.createInsecure(), { 'grpc.default_compression_algorithm': 2 });

function hello(c, request, options = {}, md = new grpc.Metadata()) {
  return new Promise((resolve) => {
    const seen = { header: '', trailer: '' };
    const call = c.Hello(request, md, options, (err, reply) => {
      seen.err = err;
      seen.reply = reply;
    });
    call.on('metadata', (m) => { seen.header = m.get('x-head').join(); });
    call.on('status', (s) => {
      seen.trailer = s.metadata.get('x-trail-bin').map((b) => b.toString('hex')).join();
      seen.details = s.metadata.get('grpc-status-details-bin').map((b) => b.toString('latin1')).join();
      setImmediate(() => resolve(seen));
    });
    if (options.cancelAfter) setTimeout(() => call.cancel(), options.cancelAfter);
  });
}

const tries = {
  async unary() {
    const md = new grpc.Metadata();
    md.set('x-ask', 'answer');
    const r = await hello(client, { name: 'Ada' }, {}, md);
    return `${r.reply.message} ${r.header} ${r.trailer}`;
  },
  async large() { return (await hello(client, { name: 'x'.repeat(3 << 20) })).reply.message.length; },
  async gzip() { return (await hello(zipped, { name: 'x'.repeat(100) })).reply.message.length; },
  async toolarge() { return (await hello(client, { name: 'x'.repeat(5 << 20) })).err.code; },
  server() {
    return new Promise((resolve, reject) => {
      const got = [];
      client.Count({ upTo: 3 }).on('data', (m) => got.push(m.n)).on('error', reject).on('end', () => resolve(got.join(' ')));
    });
  },
  client() {
    return new Promise((resolve, reject) => {
      const call = client.Sum((err, reply) => (err ? reject(err) : resolve(reply.sum)));
      for (const n of [1, 2, 3]) call.write({ n });
      call.end();
    });
  },
  bidi() {
    return new Promise((resolve, reject) => {
      const got = [];
      const call = client.Chat();
      call.on('data', (m) => {
        got.push(m.text);
        if (got.length === 1) call.write({ text: 'b' });
        else call.end();
      });
      call.on('error', reject).on('end', () => resolve(got.join()));
      call.write({ text: 'a' });
    });
  },
  async failure() {
    const r = await hello(client, { name: 'fail' });
    return `${r.err.code} ${r.err.details} ${r.details.includes('GONE') ? 'GONE' : 'no details'} ${r.trailer}`;
  },
  async much() {
    const r = await hello(client, { name: 'much' });
    return `${r.err.code} ${r.err.details.split(' (details left out')[0]} ${r.details.includes('GONE') ? 'GONE' : 'no details'} ${r.trailer}`;
  },
  // Both sides know the deadline. When it passes grpc-go's server, any of them, resets the stream; if that arrives before grpc-js's own timer
  // fires, grpc-js calls it CANCELLED.
  async deadline() {
    const { code } = (await hello(client, { name: 'wait' }, { deadline: Date.now() + 300 })).err;
    return code === grpc.status.DEADLINE_EXCEEDED || code === grpc.status.CANCELLED ? 'ended' : code;
  },
  async cancel() { return (await hello(client, { name: 'wait' }, { cancelAfter: 300 })).err.code; },
  unknown() {
    return new Promise((resolve) => {
      client.makeUnaryRequest('/greeter.Greeter/Nothing', (b) => b, (b) => b, Buffer.alloc(0), (err) => resolve(err.code));
    });
  },
};

(async () => {
  for (const [name, run] of Object.entries(tries)) {
    let got;
    try {
      got = await run();
    } catch (err) {
      got = `error: ${err.stack}`;
    }
    console.log(JSON.stringify({ name, got: String(got) }));
  }
  client.close();
  zipped.close();
})();
