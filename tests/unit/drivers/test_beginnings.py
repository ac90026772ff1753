from opnode.drivers.beginnings import NO_EARLY_DATA, EarlyData


def test_early_data_stays_out_of_representations():
    assert "secret" not in repr(EarlyData(received=b"secret", is_sent=True))
    assert EarlyData() == NO_EARLY_DATA
