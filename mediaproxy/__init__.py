"""A media proxy for Kamailio and OpenSIPS that speaks the rtpengine ng protocol."""
