"""An exchange on loopback: Binance spot and Coinbase Advanced, from a recording or an order-flow model."""
