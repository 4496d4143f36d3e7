"""A client of Hull's native protocol, written from docs/protocol.md alone. It prints one JSON object a line: what was tried, and what came of it."""
import gzip
import json
import socket
import struct
import sys
import time

HELLO, CALL, OPEN, ANSWER, PART, DATA, HALF, END, HEADER, CANCEL, WINDOW, PING, PONG, GOAWAY = range(1, 15)
MORE, PACKED = 0x80, 0x40
PIECE = 32 << 10  # of a large message
COST = 32  # of a DATA frame, beside its payload


def uvarint(n):
    out = b''
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def sized(b):
    b = b.encode() if isinstance(b, str) else b
    return uvarint(len(b)) + b


class Reader:
    def __init__(self, b):
        self.b, self.at = b, 0

    def take(self, n):
        self.at += n
        if self.at > len(self.b):
            raise ValueError('a frame is too short')
        return self.b[self.at - n:self.at]

    def byte(self):
        return self.take(1)[0]

    def uvarint(self):
        n = shift = 0
        while True:
            c = self.byte()
            n |= (c & 127) << shift
            shift += 7
            if c < 128:
                return n

    def varint(self):
        n = self.uvarint()
        return (n >> 1) ^ -(n & 1)

    def sized(self):
        return self.take(self.uvarint())

    def rest(self):
        return self.b[self.at:]


class Peer:
    def __init__(self, addr, keys=64):
        host, port = addr.rsplit(':', 1)
        self.s = socket.create_connection((host, int(port)))
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.settimeout(60)
        self.buf, self.keys = b'', keys
        accepts = [(1, 4 << 20), (2, 16 << 10), (4, 256 << 10), (5, 16 << 20)]
        if keys:
            accepts += [(6, 1), (8, keys), (9, 2)]
        hello = b''.join(uvarint(k) + uvarint(v) for k, v in accepts)
        self.s.sendall(b'\x9eHULL\x00\x01\x01' + self.frame(HELLO, 0, hello))
        self.began = time.monotonic()
        if self.exactly(8)[:6] != b'\x9eHULL\x01':
            raise ValueError('no version in common')
        r, self.said = Reader(self.read()[3]), {3: 1000, 4: 256 << 10, 5: 16 << 20}
        while r.rest():
            k, v = r.uvarint(), r.uvarint()
            self.said[k] = r.take(v) if k == 10 else v
        self.methods, self.uses, self.free = {}, {}, list(range(self.said[3]))[::-1]
        self.numbers = keys > 0 and self.said.get(8, 0) > 0  # keys of metadata have them, both ways
        self.sent, self.heard = {}, []
        self.conn, self.streams, self.waiting = self.said[5], {}, {}

    def exactly(self, n):
        while len(self.buf) < n:
            b = self.s.recv(1 << 16)
            if not b:
                raise EOFError('the server closed the connection')
            self.buf += b
        b, self.buf = self.buf[:n], self.buf[n:]
        return b

    @staticmethod
    def frame(kind, i, payload=b''):
        return struct.pack('<I', len(payload))[:3] + bytes([kind]) + struct.pack('<I', i) + payload

    def send(self, kind, i, payload=b''):
        self.s.sendall(self.frame(kind, i, payload))

    def read(self):
        h = self.exactly(8)
        return h[3] & 0x3f, h[3] & 0xc0, struct.unpack('<I', h[4:])[0], self.exactly(h[0] | h[1] << 8 | h[2] << 16)

    def begin(self):
        place = self.free.pop()
        self.uses[place] = self.uses.get(place, 0) + 1
        return self.uses[place] << 16 | place

    def over(self, i):
        self.free.append(i & 0xffff)

    def metadata(self, fields):
        out = b''
        for k, v in fields:
            if not self.numbers:
                out += sized(k)
            elif k in self.sent:
                out += uvarint(2 * self.sent[k] + 1)
            else:
                out += uvarint(2 * len(k)) + k.encode()
                if len(self.sent) < self.said[8] and len(k) <= 64:
                    self.sent[k] = len(self.sent)
            out += sized(v)
        return out

    def read_metadata(self, b):
        r, out = Reader(b), {}
        while r.rest():
            if not self.numbers:
                k = r.sized()
            else:
                n = r.uvarint()
                if n & 1:
                    k = self.heard[n >> 1]
                else:
                    k = r.take(n >> 1)
                    if len(self.heard) < self.keys and len(k) <= 64:
                        self.heard.append(k)
            out[k.decode()] = r.sized()
        return out

    def head(self, method, codec=1, left=None, age=0, size=None, trace=None, reply=None, md=None):
        flags, more, f = 64, 0, b''
        if method in self.methods:
            f += uvarint(self.methods[method])
        else:
            flags |= 16
            self.methods[method] = len(self.methods) + 1
            f += uvarint(self.methods[method]) + sized(method)
        f += bytes([codec])
        if left is not None:
            flags |= 1
            f += uvarint(left)
        f += uvarint(max(int((time.monotonic() - self.began - age) * 1e6), 0))
        if size is not None:
            flags |= 32
            f += uvarint(size)
        if trace:
            more |= 1
            f += trace
        if reply is not None:
            more |= 2
            f += bytes([reply])
        if md:
            flags |= 8
            f += sized(self.metadata(md))
        if more:
            return bytes([flags | 128, more]) + f
        return bytes([flags]) + f

    def answer(self, r):
        flags, a = r.byte(), {'code': 0, 'header': {}, 'trailer': {}}
        if flags & 1:
            a['code'], a['fate'], a['kind'], a['origin'] = r.uvarint(), r.byte(), r.byte(), r.byte()
            a['pushback'], a['message'] = r.varint(), r.sized().decode()
            a['details'] = [(r.sized(), r.sized()) for _ in range(r.uvarint())]
        if flags & 2:
            a['header'] = self.read_metadata(r.sized())
        if flags & 4:
            a['trailer'] = self.read_metadata(r.sized())
        if flags & 8:
            r.uvarint()
        if flags & 16:
            a['size'] = r.uvarint()
        return a

    def call(self, method, msg, packed=0, **kw):
        i = self.begin()
        if len(msg) <= PIECE:
            self.send(CALL | packed, i, self.head(method, **kw) + msg)
            return i
        self.send(CALL | packed | MORE, i, self.head(method, size=len(msg), **kw) + msg[:PIECE])
        for at in range(PIECE, len(msg), PIECE):
            self.send(PART | (MORE if at + PIECE < len(msg) else 0), i, msg[at:at + PIECE])
        return i

    def wait(self, i):
        """The answer to a unary call."""
        a, packed = None, False
        while True:
            kind, flags, j, b = self.read()
            if kind == PING:
                self.send(PONG, 0, b)
            elif j == i and kind == ANSWER:
                r = Reader(b)
                a, packed = self.answer(r), flags & PACKED
                a['msg'] = r.rest()
            elif j == i and kind == PART:
                a['msg'] += b
            if j != i or kind not in (ANSWER, PART) or flags & MORE:
                continue
            if a.get('size', len(a['msg'])) != len(a['msg']):
                raise ValueError('the parts do not add up')
            if packed:
                r = Reader(a['msg'])
                way, size = r.byte(), r.uvarint()
                a['msg'], a['packed'] = gzip.decompress(r.rest()), way
                if len(a['msg']) != size:
                    raise ValueError('a compressed message is not as large as it says')
            self.over(i)
            return a

    def open(self, method, **kw):
        i = self.begin()
        self.send(OPEN, i, self.head(method, **kw))
        self.streams[i], self.waiting[i] = self.said[4], []
        return i

    def say(self, i, msg):
        if len(msg) > PIECE:
            msg = uvarint(len(msg)) + msg
        for at in range(0, max(len(msg), 1), PIECE):
            b = msg[at:at + PIECE]
            while min(self.streams[i], self.conn) < len(b) + COST:
                self.step()
            self.streams[i] -= len(b) + COST
            self.conn -= len(b) + COST
            self.send(DATA | (MORE if at + PIECE < len(msg) else 0), i, b)

    def step(self):
        """Takes one frame while a stream is open. What has come is given back at once."""
        kind, flags, i, b = self.read()
        if kind == PING:
            self.send(PONG, 0, b)
        elif kind == WINDOW and i == 0:
            self.conn += Reader(b).uvarint()
        elif kind == WINDOW and i in self.streams:
            self.streams[i] += Reader(b).uvarint()
        elif kind == DATA:
            back = uvarint(len(b) + COST)
            self.s.sendall(self.frame(WINDOW, 0, back) + self.frame(WINDOW, i, back))
        if kind in (DATA, HEADER, END) and i in self.waiting:
            self.waiting[i].append((kind, flags, b))

    def hear(self, i):
        """The next message of a stream, or how it ended."""
        msg, size = b'', None
        while True:
            while not self.waiting[i]:
                self.step()
            kind, flags, b = self.waiting[i].pop(0)
            if kind == HEADER:
                self.answer(Reader(b))
                continue
            if kind == END:
                self.over(i)
                return self.answer(Reader(b))
            if size is None and flags & MORE:
                r = Reader(b)
                size, b = r.uvarint(), r.rest()
            msg += b
            if not flags & MORE:
                if size not in (None, len(msg)):
                    raise ValueError('the pieces do not add up')
                return msg


def text(s, field=1):
    return bytes([field << 3 | 2]) + sized(s)


def number(n):
    return b'\x08' + uvarint(n)


GREETER = 'greeter.Greeter/'
TRACE = bytes.fromhex('4bf92f3577b34da6a3ce929d0e0e473600f067aa0ba902b701')


def tries(addr):
    p = Peer(addr)

    def hello(name, **kw):
        return p.wait(p.call(GREETER + 'Hello', text(name), **kw))

    def failed(a):
        return '%d %d %d %s' % (a['code'], a['fate'], a['kind'], a['message'])

    def several():
        out = []
        for ask in ('one', 'two'):  # names and keys go by their numbers the second time
            a = hello('Ada', left=60_000_000, md=[('x-ask', ask)])
            out.append('%s %s %s' % (a['msg'][2:].decode(), a['header']['x-head'].decode(), a['trailer']['x-trail-bin'].hex()))
        return ', '.join(out)

    yield 'unary', several
    yield 'json', lambda: json.loads(p.wait(p.call(GREETER + 'Hello', b'{"name":"Ada"}', codec=2))['msg'])['message']
    yield 'go', lambda: json.loads(p.wait(p.call('geo.Geo/Mirror', b'{"x":1,"y":2}', codec=2))['msg'])['x']
    yield 'failure', lambda: failed(hello('fail'))
    yield 'expired', lambda: failed(hello('Ada', left=0))[:5]
    yield 'late', lambda: hello('Ada', left=60_000_000, age=0.2)['msg'][2:].decode()
    yield 'unknown', lambda: failed(p.wait(p.call(GREETER + 'Helo', text('Ada'))))[:6]
    yield 'trace', lambda: hello('Ada', trace=TRACE)['msg'][2:].decode()
    yield 'large', lambda: len(hello('x' * (3 << 20), reply=0)['msg'])

    def compressed():
        msg = text('x' * 100_000)
        a = p.wait(p.call(GREETER + 'Hello', b'\x01' + uvarint(len(msg)) + gzip.compress(msg), packed=PACKED, reply=1))
        return '%d %d' % (len(a['msg']), a.get('packed', 0))

    yield 'compressed', compressed
    yield 'bomb', lambda: failed(p.wait(p.call(GREETER + 'Hello', b'\x01' + uvarint(1 << 30) + gzip.compress(b'x'), packed=PACKED)))[:6]

    def cancel():
        i = p.call(GREETER + 'Hello', text('wait'))
        hello('Ada')  # it has begun
        p.send(CANCEL, i)
        p.over(i)
        return hello('Ada')['msg'][2:].decode()

    yield 'cancel', cancel

    def server():
        i, got = p.open(GREETER + 'Count'), []
        p.say(i, number(3))
        p.send(HALF, i)
        while isinstance(m := p.hear(i), bytes):
            got.append(m[1])
        return '%s %d' % (got, m['code'])

    yield 'server', server

    def client():
        i = p.open(GREETER + 'Sum')
        for n in range(2000):
            p.say(i, number(n))
        p.send(HALF, i)
        return '%d %d' % (Reader(p.hear(i)[1:]).uvarint(), p.hear(i)['code'])

    yield 'client', client

    def bidi():
        i, got = p.open(GREETER + 'Chat'), 0
        for size in [10] * 200 + [1 << 20]:  # the last is larger than the window
            p.say(i, text('x' * size, 2))
            got += len(p.hear(i))
        p.send(HALF, i)
        return '%d %d' % (got, p.hear(i)['code'])

    yield 'bidi', bidi

    def again():
        for _ in range(300):  # places are used again
            a = hello('Ada')
        return a['msg'][2:].decode()

    yield 'again', again

    def plain():
        q = Peer(addr, keys=0)
        a = q.wait(q.call(GREETER + 'Hello', text('Ada'), md=[('x-ask', 'plain')]))
        return '%s %s' % (a['msg'][2:].decode(), a['header']['x-head'].decode())

    yield 'plain', plain

    def broken():
        q = Peer(addr)
        q.send(PING, 0, b'short')
        while (f := q.read())[0] != GOAWAY:
            pass
        r = Reader(f[3])
        return '%d %d' % (r.uvarint(), r.byte())

    yield 'broken', broken


for name, f in tries(sys.argv[1]):
    try:
        result = str(f())
    except (ValueError, KeyError, IndexError, OSError, EOFError) as e:
        result = 'failed: %r' % e
    print(json.dumps({'name': name, 'got': result}), flush=True)
