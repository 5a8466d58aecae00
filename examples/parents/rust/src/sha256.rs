//! SHA-256 (FIPS 180-4), so that this example needs no crate. Use the crate `sha2` instead.

pub struct Sha256 {
    state: [u32; 8],
    constants: [u32; 64],
    held: Vec<u8>, // less than one block
    bytes: u64,
}

impl Sha256 {
    pub fn new() -> Self {
        // Sections 4.2.2 and 5.3.3: fractions of the roots of the first primes.
        let is_prime = |n: &u64| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0);
        let mut primes = (2u64..).filter(is_prime);
        let (mut state, mut constants) = ([0; 8], [0; 64]);
        for (i, constant) in constants.iter_mut().enumerate() {
            let prime = primes.next().expect("primes do not end") as u128;
            *constant = root(prime << 96, 3);
            if i < 8 {
                state[i] = root(prime << 64, 2);
            }
        }
        Sha256 { state, constants, held: Vec::new(), bytes: 0 }
    }

    pub fn update(&mut self, content: &[u8]) {
        self.bytes += content.len() as u64;
        self.held.extend_from_slice(content);
        let held = std::mem::take(&mut self.held);
        let blocks = held.chunks_exact(64);
        self.held.extend_from_slice(blocks.remainder());
        blocks.for_each(|block| self.block(block));
    }

    pub fn hex(mut self) -> String {
        let bits = self.bytes * 8;
        let zeros = (119 - self.bytes as usize % 64) % 64;
        self.update(&[&[0x80][..], &vec![0; zeros], &bits.to_be_bytes()].concat());
        self.state.iter().map(|word| format!("{word:08x}")).collect()
    }

    fn block(&mut self, block: &[u8]) {
        let mut w = [0u32; 64];
        for (i, four) in block.chunks_exact(4).enumerate() {
            w[i] = u32::from_be_bytes(four.try_into().expect("four bytes"));
        }
        for i in 16..64 {
            let (x, y) = (w[i - 15], w[i - 2]);
            let s0 = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
            let s1 = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
            w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = self.state;
        for (word, constant) in w.iter().zip(self.constants) {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let chosen = (e & f) ^ (!e & g);
            let t1 = [s1, chosen, constant, *word].iter().fold(h, |sum, n| sum.wrapping_add(*n));
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
            (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
        }
        for (word, more) in self.state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word = word.wrapping_add(more);
        }
    }
}

/// The first 32 bits of the fraction of a root; `scaled` is the number, times 2^32 to that power.
fn root(scaled: u128, power: u32) -> u32 {
    let (mut low, mut high) = (0u128, 1u128 << 37);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if middle.pow(power) <= scaled {
            low = middle;
        } else {
            high = middle;
        }
    }
    low as u32
}
