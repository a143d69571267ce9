/* A plugin of qemu-user: how many instructions of the emulated processor a program executed. The number is
 * written to the file that COUNT_FILE names when the program ends.
 *
 * The declarations are those of version 1 of QEMU's plugin interface that are used here; Debian has no header
 * for it. https://www.qemu.org/docs/master/devel/tcg-plugins.html
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPORTED __attribute__((visibility("default")))
/* Threads of the program; more share a counter. */
#define COUNTERS 1024

typedef uint64_t plugin_id;
struct block;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct block *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct block *, void (*)(unsigned, void *), int flags, void *data);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *data);
size_t qemu_plugin_tb_n_insns(const struct block *);

EXPORTED int qemu_plugin_version = 1;

/* A cache line each: nothing is lost, and threads do not wait for each other. */
static struct {
    uint64_t count;
    char rest[56];
} counters[COUNTERS];

static void executed(unsigned thread, void *instructions)
{
    counters[thread % COUNTERS].count += (uintptr_t)instructions;
}

static void translated(plugin_id id, struct block *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, 0, (void *)qemu_plugin_tb_n_insns(block));
}

static void ended(plugin_id id, void *data)
{
    (void)id;
    (void)data;
    const char *path = getenv("COUNT_FILE");
    FILE *file = path ? fopen(path, "w") : NULL;
    uint64_t sum = 0;
    for (size_t i = 0; i < COUNTERS; i++)
        sum += counters[i].count;
    if (file) {
        fprintf(file, "%" PRIu64 "\n", sum);
        fclose(file);
    }
}

EXPORTED int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv)
{
    (void)info;
    (void)argc;
    (void)argv;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
