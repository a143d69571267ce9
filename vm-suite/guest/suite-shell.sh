#!/bin/sh
# Runs the first line of standard input as a command, with the rest of it as its input; the last
# line of the output says how the command ended.
IFS= read -r line
(eval "$line") 2>&1
printf '\nended with %d\n' $?
