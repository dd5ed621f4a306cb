/* Hide instructions of this processor from a program, at native speed: CPUID faults, and this library answers.

   Linux on x86-64 with the flag cpuid_fault (arch_prctl ARCH_SET_CPUID). Loaded by LD_PRELOAD; HIDDEN_ABOVE names what
   is left: avx512 (without VNNI), avx-vnni (without AVX512), avx2, avx or sse.

       gcc -O2 -shared -fPIC -o hide_features.so hide_features.c

   Bits are those of Intel's manual, volume 2A, CPUID: leaf 7 has AVX2 in ebx 5, AVX512 in ebx 16 to 31 and ecx, AMX in
   edx; leaf 7.1 has AVX-VNNI in eax 4; leaf 1 has FMA, F16C and AVX in ecx. */

#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

enum { AVX512 = 1, AVX_VNNI, AVX2, AVX, SSE };
static const char *const LEVELS[] = {"", "avx512", "avx-vnni", "avx2", "avx", "sse"};
static int level;

struct answer { unsigned eax, ebx, ecx, edx; };

static void fault(int on) { syscall(SYS_arch_prctl, ARCH_SET_CPUID, on ? 0 : 1); }

static struct answer ask(unsigned leaf, unsigned subleaf) {
  struct answer a;
  fault(0);
  __asm__ volatile("cpuid" : "=a"(a.eax), "=b"(a.ebx), "=c"(a.ecx), "=d"(a.edx) : "a"(leaf), "c"(subleaf));
  fault(1);
  return a;
}

static struct answer hide(struct answer a, unsigned leaf, unsigned subleaf) {
  if (leaf == 7 && subleaf == 0) {
    a.edx &= ~(BIT(22) | BIT(24) | BIT(25)); /* AMX */
    a.ecx &= ~BIT(11);                       /* AVX512-VNNI */
    if (level > AVX512) {
      a.ebx &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31));
      a.ecx &= ~(BIT(1) | BIT(6) | BIT(12) | BIT(14));
      a.edx &= ~(BIT(2) | BIT(3) | BIT(8) | BIT(23));
    }
    if (level > AVX2) {
      a.ebx &= ~BIT(5);
      a.ecx &= ~(BIT(8) | BIT(9) | BIT(10));
    }
  }
  if (leaf == 7 && subleaf == 1) {
    a.eax &= ~(BIT(5) | BIT(21) | BIT(22));
    if (level != AVX_VNNI) {
      a.eax &= ~(BIT(4) | BIT(23));
      a.edx &= ~(BIT(4) | BIT(5) | BIT(10) | BIT(19));
    }
  }
  if (leaf == 1 && level > AVX2) a.ecx &= ~(BIT(12) | BIT(29));          /* FMA, F16C */
  if (leaf == 1 && level > AVX) a.ecx &= ~(BIT(26) | BIT(27) | BIT(28)); /* XSAVE, OSXSAVE, AVX */
  return a;
}

static void on_fault(int number, siginfo_t *info, void *context) {
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
  (void)number;
  if (info->si_code == SI_KERNEL && instruction[0] == 0x0f && instruction[1] == 0xa2) {
    unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX];
    struct answer a = hide(ask(leaf, subleaf), leaf, subleaf);
    registers[REG_RAX] = a.eax;
    registers[REG_RBX] = a.ebx;
    registers[REG_RCX] = a.ecx;
    registers[REG_RDX] = a.edx;
    registers[REG_RIP] += 2;
    return;
  }
  signal(SIGSEGV, SIG_DFL); /* a fault of the program's own */
}

__attribute__((constructor)) static void start(void) {
  const char *wanted = getenv("HIDDEN_ABOVE");
  struct sigaction action;
  if (!wanted) return;
  for (int i = AVX512; i <= SSE; i++)
    if (!strcmp(wanted, LEVELS[i])) level = i;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  if (!level || sigaction(SIGSEGV, &action, 0) || syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) {
    fprintf(stderr, "hide_features: cannot hide what is above '%s'\n", wanted);
    _exit(3);
  }
}
