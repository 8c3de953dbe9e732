/* What --help and --version print. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

void help_print(void);
void version_print(void);

#endif
