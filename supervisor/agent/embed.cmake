# cmake -D FROM=FILE -D TO=FILE.c -D NAME=IDENTIFIER -P embed.cmake: a file's bytes as a C array with a NUL behind them.
file(READ ${FROM} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
file(WRITE ${TO} "#include <stddef.h>\nextern const char ${NAME}[];\nextern const size_t ${NAME}_bytes;\n"
	"const char ${NAME}[] = {\n${bytes}0};\nconst size_t ${NAME}_bytes = sizeof(${NAME}) - 1;\n")
