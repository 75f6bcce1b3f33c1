holdfast_unit_test(cli_checkpoints SOURCES test_cli_checkpoints.c LIBS cli_core)
holdfast_unit_test(cli_duration SOURCES test_cli_duration.c LIBS cli_core)
holdfast_unit_test(cli_options SOURCES test_cli_options.c LIBS cli_core)
holdfast_unit_test(cli_excerpt SOURCES test_cli_excerpt.c LIBS cli_core)
