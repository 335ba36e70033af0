/* replay.c - gives each file of a folder to a fuzzer's function, once: for builds that count lines
 * instead of looking for new inputs. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MOST 65536

int main(int argc, char **argv) {
    static uint8_t data[INPUT_MOST];
    struct dirent *entry;
    char path[4096];
    unsigned count = 0;
    DIR *folder;

    if (argc != 2 || (folder = opendir(argv[1])) == NULL) {
        fprintf(stderr, "give a folder of inputs\n");
        return 2;
    }
    LLVMFuzzerInitialize(&argc, &argv);
    while ((entry = readdir(folder)) != NULL) {
        FILE *file;

        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        file = fopen(path, "rb");
        if (file == NULL) {
            perror(path);
            return 1;
        }
        (void)LLVMFuzzerTestOneInput(data, fread(data, 1, sizeof(data), file));
        (void)fclose(file);
        count++;
    }
    (void)closedir(folder);
    printf("%u\n", count);
    return 0;
}
